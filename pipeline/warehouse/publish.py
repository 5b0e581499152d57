"""Publications: which load of each table readers see. One single-row INSERT flips all four tables together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pipeline.attempts import with_backoff
from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import LEDGER, PUBLICATIONS, TABLES
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION, count_rows


@dataclass(frozen=True)
class Publication:
    """What readers see of a snapshot."""

    processing_date: date
    window_days: int
    manifest_sha256: str
    load_ids: Mapping[str, str]  #: by table name
    row_counts: Mapping[str, int]  #: by table name
    source: str  #: URI of the manifest, its version as the fragment
    published_at: datetime  #: UTC
    published_by: str  #: host
    forgotten: bool = False  #: an operator asked to load at least one of its tables anew


_NEWEST = f"""
    WITH (published_at, mapValues(load_ids)) AS newest  -- as the views choose
    SELECT
        toString(processing_date),
        window_days,
        argMax(p.manifest_sha256, newest),
        CAST(argMax(load_ids, newest), 'Map(String, String)'),
        argMax(row_counts, newest),
        argMax(p.source, newest),
        toUnixTimestamp64Micro(max(published_at)),
        argMax(published_by, newest),
        toUInt8(hasAny(
            mapValues(argMax(load_ids, newest)),
            (SELECT groupArray(load_id) FROM {{database}}.{LEDGER} WHERE state = 'forgotten')
        ))
    FROM {{database}}.{PUBLICATIONS} AS p
    WHERE processing_date BETWEEN {{first:Date}} AND {{last:Date}} AND window_days = {{window_days:UInt16}}
    GROUP BY
        processing_date,
        window_days
    ORDER BY processing_date
"""


def publications(warehouse: Warehouse, first: date, last: date, window_days: int) -> list[Publication]:
    """Return what readers see of each date from ``first`` to ``last``, with one query; dates without are left out."""
    try:
        rows = warehouse.query(_NEWEST, first=first.isoformat(), last=last.isoformat(), window_days=window_days)
    except MissingTableError:
        return []
    return [
        Publication(
            processing_date=date.fromisoformat(day),
            window_days=window,
            manifest_sha256=manifest_sha256,
            load_ids=load_ids,
            row_counts=row_counts,
            source=source,
            published_at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=published_at),
            published_by=published_by,
            forgotten=bool(forgotten),
        )
        for day, window, manifest_sha256, load_ids, row_counts, source, published_at, published_by, forgotten in rows
    ]


def newest(warehouse: Warehouse, snapshot: Snapshot) -> Publication | None:
    """Return what readers see of the snapshot, or None."""
    day = snapshot.processing_date
    return next(iter(publications(warehouse, day, day, snapshot.window_days)), None)


def latest(warehouse: Warehouse, window_days: int) -> Publication | None:
    """Return what readers see of the newest date that is published, or None."""
    return next(iter(publications(warehouse, date(1970, 1, 1), date(2149, 6, 6), window_days)[-1:]), None)


def publish(
    warehouse: Warehouse,
    snapshot: Snapshot,
    *,
    manifest_sha256: str,
    source: str,
    loads: Mapping[str, tuple[str, int]],
) -> Publication:
    """Make readers see these loads, ``(load_id, row count)`` by table name, and return the publication.

    Does nothing when they see them already. Raises WarehouseError when a load's rows are not all there.
    """
    for table in TABLES:
        load_id, rows = loads[table.name]
        if (found := count_rows(warehouse, snapshot, table, load_id)) != rows:
            raise WarehouseError(
                f"{table.loads}: load {load_id} has {found} rows, {rows} were loaded; not published",
                hint="run again: the table is loaded anew",
            )
    load_ids = {name: load_id for name, (load_id, _) in loads.items()}

    def insert_once() -> Publication:
        current = newest(warehouse, snapshot)  # an insert whose answer was lost may have taken effect
        if current is None or (current.load_ids, current.manifest_sha256) != (load_ids, manifest_sha256):
            row_counts = {name: rows for name, (_, rows) in loads.items()}
            _insert(warehouse, snapshot, manifest_sha256, source, load_ids, row_counts)
            current = newest(warehouse, snapshot)
        if current is None or current.load_ids != load_ids:
            raise WarehouseError(
                f"{PUBLICATIONS}: readers do not see the loads just published for {snapshot}",
                hint="another run published at the same time: see sot_publications",
            )
        return current

    return with_backoff(insert_once)


def _insert(
    warehouse: Warehouse,
    snapshot: Snapshot,
    manifest_sha256: str,
    source: str,
    load_ids: Mapping[str, str],
    row_counts: Mapping[str, int],
) -> None:
    """Append one row, newer than every other of its snapshot whatever the clock says."""
    warehouse.execute(
        f"""
        INSERT INTO {{database}}.{PUBLICATIONS}
            (processing_date, window_days, manifest_sha256, load_ids, row_counts, source,
             published_at, published_by, pipeline_version)
        SELECT
            {{processing_date:Date}},
            {{window_days:UInt16}},
            {{manifest_sha256:String}},
            CAST(JSONExtract({{load_ids:String}}, 'Map(String, String)'), 'Map(String, UUID)'),
            JSONExtract({{row_counts:String}}, 'Map(String, UInt64)'),
            {{source:String}},
            greatest(
                now64(6, 'UTC'),
                (
                    SELECT max(published_at)
                    FROM {{database}}.{PUBLICATIONS}
                    WHERE processing_date = {{processing_date:Date}} AND window_days = {{window_days:UInt16}}
                ) + toIntervalMicrosecond(1)
            ),
            {{published_by:String}},
            {{pipeline_version:String}}
        """,
        processing_date=snapshot.processing_date.isoformat(),
        window_days=snapshot.window_days,
        manifest_sha256=manifest_sha256,
        load_ids=json.dumps(load_ids),
        row_counts=json.dumps(row_counts),
        source=source,
        published_by=HOST,
        pipeline_version=PIPELINE_VERSION,
    )
