"""The ledger: one row for each thing that became of an attempt to load a file into a table. Only ever appended to."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from typing import Literal

from pipeline.logs import VERSION
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, LEDGER, PUBLICATIONS
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.rows import micros, read_row

LoadState = Literal["started", "loaded", "failed", "forgotten", "compared", "collected"]

HOST = socket.gethostname()
PIPELINE_VERSION = VERSION


@dataclass(frozen=True)
class LedgerEntry:
    """An attempt and its newest state."""

    processing_date: date
    window_days: int
    table_name: str
    load_id: str  #: UUID
    state: LoadState
    started_at: datetime  #: UTC, by the warehouse's clock
    manifest_sha256: str  #: of the META.json that the attempt was made for
    file_name: str  #: as the manifest spells it
    file_sha256: str  #: of the bytes that were loaded
    file_bytes: int
    proof: str  #: sha256 or md5: what the manifest proved the file by
    superseded_by: str  #: the snapshot whose manifest lists the file, when it is not this one's
    source: str  #: URI of the manifest, its version as the fragment
    row_count: int = 0
    content_digest: str = ""  #: hex, over all cells of all rows, in any order
    error: str = ""

    def now(self, state: LoadState, *, error: str = "", row_count: int = 0, content_digest: str = "") -> LedgerEntry:
        """Return the entry in another state."""
        return replace(self, state=state, error=error[:2_000], row_count=row_count, content_digest=content_digest)


#: The rows about one snapshot, and those of one load, which are one partition.
SNAPSHOT_FILTER = "processing_date = {processing_date:Date} AND window_days = {window_days:UInt16}"
PARTITION_FILTER = f"{SNAPSHOT_FILTER} AND load_id = {{load_id:UUID}}"


def snapshot_params(snapshot: Snapshot) -> dict[str, object]:
    """Return the parameters of :data:`SNAPSHOT_FILTER`."""
    return {"processing_date": snapshot.processing_date.isoformat(), "window_days": snapshot.window_days}


def partition_params(snapshot: Snapshot, load_id: str) -> dict[str, object]:
    """Return the parameters of :data:`PARTITION_FILTER`."""
    return {**snapshot_params(snapshot), "load_id": load_id}


_STARTED_AT = "fromUnixTimestamp64Micro({started_at:Int64}, 'UTC')"
_PARAMETERS = {
    "processing_date": "{processing_date:Date}",
    "window_days": "{window_days:UInt16}",
    "load_id": "{load_id:UUID}",
    "started_at": _STARTED_AT,
    "file_bytes": "{file_bytes:UInt64}",
    "row_count": "{row_count:UInt64}",
    # An interrupted client leaves its INSERT to the server, which may run it after the one that tells of the end: that
    # one is the newer all the same.
    "recorded_at": f"if({{state:String}} = 'started', {_STARTED_AT}, "
    f"greatest(now64(6, 'UTC'), {_STARTED_AT} + toIntervalMicrosecond(1)))",
}
_COLUMNS = (*(field.name for field in fields(LedgerEntry)), "recorded_at", "host", "pipeline_version")
_RECORD = (
    f"INSERT INTO {{database}}.{LEDGER} ({', '.join(_COLUMNS)})\n"
    f"SELECT {', '.join(_PARAMETERS.get(name, f'{{{name}:String}}') for name in _COLUMNS)}"
)


def record_load(warehouse: Warehouse, entry: LedgerEntry) -> None:
    """Append an entry. Twice the same does no harm: the newest row of a load counts."""
    values = {
        **asdict(entry),
        "processing_date": entry.processing_date.isoformat(),
        "started_at": micros(entry.started_at),
        "host": HOST,
        "pipeline_version": PIPELINE_VERSION,
    }
    warehouse.retry(lambda: warehouse.execute(_RECORD, **values))


def find_proven_loads(warehouse: Warehouse, snapshot: Snapshot, files: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Return load_id and row count of the newest proven load of files, whose SHA-256 are given by table name.

    Proven: counted and compared after the insert, not forgotten since, and all its rows are still there. Tables
    without one are left out.
    """
    newest = f"""
        SELECT table_name, load_id, argMax(row_count, recorded_at) AS row_count
        FROM {{database}}.{LEDGER}
        WHERE {SNAPSHOT_FILTER}
            AND has(splitByChar(',', {{files:String}}), concat(table_name, ':', file_sha256))
        GROUP BY table_name, load_id
        HAVING argMax(state, recorded_at) = 'loaded'
        ORDER BY max(recorded_at) DESC
        LIMIT 1 BY table_name
    """
    listed = ",".join(f"{name}:{sha256}" for name, sha256 in files.items())
    return _whole_loads(warehouse, snapshot, list(files), newest, files=listed)


def proven_loads(
    warehouse: Warehouse, snapshot: Snapshot, load_ids: Mapping[str, str], since: datetime
) -> dict[str, tuple[str, int]]:
    """Return those of some loads, given by table name, that are proven, as :func:`find_proven_loads` does.

    That a load was forgotten before ``since`` does not count: a rollback brought it back to readers then.
    """
    proven = f"""
        SELECT table_name, load_id, argMaxIf(row_count, recorded_at, state = 'loaded') AS row_count
        FROM {{database}}.{LEDGER}
        WHERE {SNAPSHOT_FILTER} AND has(splitByChar(',', {{load_ids:String}}), toString(load_id))
        GROUP BY table_name, load_id
        HAVING argMaxIf(
            state,
            recorded_at,
            state != 'forgotten' OR recorded_at > fromUnixTimestamp64Micro({{since:Int64}}, 'UTC')
        ) = 'loaded'
    """
    return _whole_loads(
        warehouse, snapshot, list(load_ids), proven, load_ids=",".join(load_ids.values()), since=micros(since)
    )


def _whole_loads(
    warehouse: Warehouse, snapshot: Snapshot, names: Sequence[str], loads: str, **parameters: object
) -> dict[str, tuple[str, int]]:
    """Return those loads of the named tables whose rows are all there; ``loads`` selects name, load_id and row count.

    One query, unless a table is missing: then one more for each, for the others' loads are proven all the same.
    """
    if not names:
        return {}
    try:
        warehouse.sync(LEDGER, *(BY_NAME[name].loads for name in names))
        rows = warehouse.query(
            f"""
            SELECT toString(table_name) AS name, toString(load_id), row_count
            FROM ({loads}) AS recorded
            LEFT JOIN ({stored_rows(names)}) AS stored USING (load_id)
            WHERE row_count = ifNull(stored_rows, 0) AND has(splitByChar(',', {{names:String}}), name)
            """,
            **snapshot_params(snapshot),
            **parameters,
            names=",".join(names),
        )
    except MissingTableError:
        if len(names) == 1:
            return {}
        found = [_whole_loads(warehouse, snapshot, [name], loads, **parameters) for name in names]
        return {name: load for of_table in found for name, load in of_table.items()}
    return {name: (load_id, int(row_count)) for name, load_id, row_count in rows}


@dataclass(frozen=True)
class RecordedLoad:
    """What the ledger says of a load."""

    load_id: str
    table_name: str
    state: str  #: the newest
    was_loaded: bool  #: its rows were counted and compared; whether or not the proof was taken back since
    row_count: int
    content_digest: str
    file_sha256: str


def recorded_loads(warehouse: Warehouse, snapshot: Snapshot) -> dict[str, RecordedLoad]:
    """Return what the ledger says of each load of a snapshot, by load_id."""
    try:
        found = warehouse.query(
            f"""
            SELECT
                toString(load_id),
                toString(any(table_name)),
                toString(argMax(state, recorded_at)),
                toUInt8(countIf(state = 'loaded') > 0),
                argMaxIf(row_count, recorded_at, state = 'loaded'),
                argMaxIf(content_digest, recorded_at, state = 'loaded'),
                argMaxIf(file_sha256, recorded_at, state = 'loaded')
            FROM {{database}}.{LEDGER}
            WHERE {SNAPSHOT_FILTER}
            GROUP BY load_id
            """,
            **snapshot_params(snapshot),
        )
    except MissingTableError:
        return {}
    return {row[0]: read_row(RecordedLoad, row) for row in found}


def attempted_dates(warehouse: Warehouse, first: date, last: date, window_days: int) -> set[date]:
    """Return the dates from ``first`` to ``last`` with an attempt to load a table; one query."""
    try:
        rows = warehouse.query(
            f"""
            SELECT DISTINCT toString(processing_date)
            FROM {{database}}.{LEDGER}
            WHERE processing_date BETWEEN {{first:Date}} AND {{last:Date}} AND window_days = {{window_days:UInt16}}
            """,
            first=first.isoformat(),
            last=last.isoformat(),
            window_days=window_days,
        )
    except MissingTableError:
        return set()
    return {date.fromisoformat(day) for (day,) in rows}


def count_rows(warehouse: Warehouse, snapshot: Snapshot, loads: Sequence[tuple[str, str]]) -> list[int]:
    """Return how many rows of each load, ``(table name, load_id)``, are in its table."""
    if not loads:
        return []
    found = dict(
        warehouse.query(
            f"SELECT toString(load_id), stored_rows FROM ({stored_rows(name for name, _ in loads)})",
            **snapshot_params(snapshot),
        )
    )
    return [int(found.get(load_id, 0)) for _, load_id in loads]


def stored_rows(tables: Iterable[str]) -> str:
    """Return a SELECT of the load_id of each load of a snapshot in some tables, and how many rows are stored of it.

    ClickHouse counts them by what the parts say of themselves, in half the time that a subquery for each load takes.
    """
    return " UNION ALL ".join(
        f"SELECT load_id, count() AS stored_rows FROM {{database}}.{BY_NAME[name].loads} "
        f"WHERE {SNAPSHOT_FILTER} GROUP BY load_id"
        for name in dict.fromkeys(tables)
    )


def copied_columns() -> list[str]:
    """Return the columns that a row about a load has in common with the row before."""
    return [name for name in _COLUMNS if name not in {"state", "recorded_at", "host", "pipeline_version"}]


def forget_loads(warehouse: Warehouse, snapshot: Snapshot, tables: tuple[str, ...]) -> None:
    """Append a row for each load of these tables that was ever proven, which takes its proof back.

    Loads whose proof was taken back before are among them: a rollback may have brought them back to readers. The row
    is newer than all that is recorded or published, whatever the clock says. Twice the same does no harm.
    """
    copied = copied_columns()
    statement = f"""
        INSERT INTO {{database}}.{LEDGER} ({", ".join(copied)}, state, recorded_at, host, pipeline_version)
        SELECT
            {", ".join(copied)},
            'forgotten',
            greatest(
                now64(6, 'UTC'),
                (SELECT max(recorded_at) FROM {{database}}.{LEDGER} WHERE {SNAPSHOT_FILTER}) + INTERVAL 1 MICROSECOND,
                (
                    SELECT max(published_at) FROM {{database}}.{PUBLICATIONS} WHERE {SNAPSHOT_FILTER}
                ) + INTERVAL 1 MICROSECOND
            ),
            {{host:String}},
            {{pipeline_version:String}}
        FROM {{database}}.{LEDGER}
        WHERE {SNAPSHOT_FILTER} AND has(splitByChar(',', {{tables:String}}), table_name) AND state = 'loaded'
        LIMIT 1 BY load_id
    """
    values = {
        **snapshot_params(snapshot),
        "tables": ",".join(tables),
        "host": HOST,
        "pipeline_version": PIPELINE_VERSION,
    }
    with contextlib.suppress(MissingTableError):
        warehouse.sync(LEDGER, PUBLICATIONS)
        warehouse.retry(lambda: warehouse.execute(statement, **values))
