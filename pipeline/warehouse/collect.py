"""The loads whose rows are stored, and whether anything names them; marking one as collected, and dropping it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, LEDGER, PUBLICATIONS, STEPS, TABLES
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION, copied_columns, partition_params
from pipeline.warehouse.publications import NOTHING
from pipeline.warehouse.rows import moment, read_row
from pipeline.warehouse.whole import require_all_rows


@dataclass(frozen=True)
class StoredLoad:
    """A load with rows in its table, and what the ledger says last about it."""

    snapshot: Snapshot
    table_name: str
    load_id: str  #: UUID
    rows: int
    bytes: int  #: of the file that was loaded
    state: str
    recorded_at: datetime  #: UTC


@dataclass(frozen=True)
class PublishedLoads:
    """A publication, as far as it matters here."""

    action: str
    published_at: datetime  #: UTC
    load_ids: frozenset[str]


def stored_loads(warehouse: Warehouse, network: str) -> list[StoredLoad]:
    """Return the loads that the ledger knows and that have rows, the oldest date first. Raises WarehouseError.

    Rows are counted from the parts' own metadata, so that it costs no reading of rows.
    """
    try:
        rows = warehouse.query(
            f"""
            SELECT
                toString(processing_date), window_days, table_name, toString(load_id), stored_rows,
                argMax(file_bytes, recorded_at), argMax(toString(state), recorded_at),
                toUnixTimestamp64Micro(max(recorded_at))
            FROM {{database}}.{LEDGER}
            INNER JOIN ({" UNION ALL ".join(_counted(table.name) for table in TABLES)}) AS stored
            USING (processing_date, window_days, table_name, load_id)
            GROUP BY processing_date, window_days, table_name, load_id, stored_rows
            ORDER BY processing_date, window_days, table_name, max(recorded_at)
            """
        )
    except MissingTableError:
        return []
    return [read_row(StoredLoad, row, Snapshot(network, date.fromisoformat(day), window)) for day, window, *row in rows]


def _counted(table_name: str) -> str:
    return f"""
        SELECT processing_date, window_days, '{table_name}' AS table_name, load_id, count() AS stored_rows
        FROM {{database}}.{BY_NAME[table_name].loads}
        GROUP BY processing_date, window_days, load_id
    """


def all_publications(warehouse: Warehouse, network: str) -> dict[Snapshot, list[PublishedLoads]]:
    """Return all publications of every snapshot, the oldest first, as the views choose. Raises WarehouseError."""
    try:
        rows = warehouse.query(
            f"""
            SELECT
                toString(processing_date), window_days, toString(action), toUnixTimestamp64Micro(published_at),
                arrayMap(id -> toString(id), mapValues(load_ids))
            FROM {{database}}.{PUBLICATIONS} AS p
            WHERE publication_id != toUUID('{NOTHING}')
            ORDER BY processing_date, window_days, p.published_at, mapValues(p.load_ids)
            LIMIT 1 BY p.processing_date, p.window_days, p.publication_id, mapValues(p.load_ids)
            """
        )
    except MissingTableError:
        return {}
    found: dict[Snapshot, list[PublishedLoads]] = {}
    for day, window, action, at, load_ids in rows:
        snapshot = Snapshot(network, date.fromisoformat(day), window)
        found.setdefault(snapshot, []).append(PublishedLoads(action, moment(at), frozenset(load_ids)))
    return found


def require_all_publications(warehouse: Warehouse, network: str) -> None:
    """Raise WarehouseError unless every publication that runs recorded is to be seen, and every row of all tables.

    What cannot be seen is not known to be unpublished.
    """
    require_all_rows(warehouse)
    try:
        rows = warehouse.query(
            f"""
            SELECT toString(processing_date), window_days, JSONExtractString(facts, 'publication_id') AS id
            FROM {{database}}.{STEPS}
            WHERE step = 'PublishSnapshot' AND state = 'done' AND id != ''
                AND id NOT IN (SELECT toString(publication_id) FROM {{database}}.{PUBLICATIONS})
            ORDER BY processing_date, window_days
            LIMIT 1
            """
        )
    except MissingTableError:
        return
    for day, window, id_ in rows:
        raise WarehouseError(
            f"{PUBLICATIONS}: no publication {id_} of {Snapshot(network, date.fromisoformat(day), window)}, which "
            f"{STEPS} says was published",
            hint=f"restore the rows of {PUBLICATIONS}; if they were removed on purpose, remove those of {STEPS} too; "
            "nothing was changed",
        )


def mark(warehouse: Warehouse, loads: Sequence[StoredLoad], state: str) -> None:
    """Append a ledger row about each load: collected, or what it was before. Raises WarehouseError.

    A publication does not name a load that is marked as collected, see pipeline.warehouse.publish.
    """
    copied = ", ".join(copied_columns())
    warehouse.execute(
        f"""
        INSERT INTO {{database}}.{LEDGER} ({copied}, state, recorded_at, host, pipeline_version)
        SETTINGS max_partitions_per_insert_block = 0
        SELECT {copied}, {{state:String}}, greatest(now64(6, 'UTC'), recorded_at + toIntervalMicrosecond(1)),
            {{host:String}}, {{pipeline_version:String}}
        FROM {{database}}.{LEDGER} AS l
        WHERE has(splitByChar(',', {{load_ids:String}}), toString(load_id))
        ORDER BY l.recorded_at DESC
        LIMIT 1 BY load_id
        """,
        state=state,
        load_ids=",".join(load.load_id for load in loads),
        host=HOST,
        pipeline_version=PIPELINE_VERSION,
    )


def named_among(warehouse: Warehouse, loads: Iterable[StoredLoad]) -> set[str]:
    """Return which of the loads the newest publication of their snapshot names. Raises WarehouseError."""
    rows = warehouse.query(
        f"""
        SELECT DISTINCT toString(arrayJoin(mapValues(argMax(load_ids, (published_at, mapValues(load_ids)))))) AS load_id
        FROM {{database}}.{PUBLICATIONS}
        GROUP BY processing_date, window_days
        HAVING has(splitByChar(',', {{load_ids:String}}), load_id)
        """,
        load_ids=",".join(load.load_id for load in loads),
    )
    return {id_ for (id_,) in rows}


def drop(warehouse: Warehouse, load: StoredLoad) -> None:
    """Remove a load's rows; a query that reads them keeps its parts to its end. Raises WarehouseError."""
    warehouse.execute(
        f"""
        ALTER TABLE {{database}}.{BY_NAME[load.table_name].loads}
        DROP PARTITION ({{processing_date:Date}}, {{window_days:UInt16}}, {{load_id:UUID}})
        SETTINGS max_partition_size_to_drop = 0
        """,
        **partition_params(load.snapshot, load.load_id),
    )


#: Of what was dropped, Keeper knows an empty part for eight minutes more, and cannot forget the partition meanwhile.
#: Two daily collections have a try at each.
_FORGOTTEN_AFTER, _FORGOTTEN_UNTIL = "INTERVAL 15 MINUTE", "INTERVAL 50 HOUR"
_CANNOT_FORGET = "ClickHouse error 716:"


def forget_partitions(warehouse: Warehouse, network: str) -> int:
    """Let Keeper forget the partitions of loads that were dropped lately, and return how many it did.

    It keeps a node for each otherwise, for ever. Does nothing where tables are no replicas. Raises WarehouseError.
    """
    if not warehouse.is_replicated:
        return 0
    try:
        rows = warehouse.query(
            f"""
            SELECT toString(processing_date), window_days, toString(table_name), toString(load_id)
            FROM {{database}}.{LEDGER}
            GROUP BY processing_date, window_days, table_name, load_id
            HAVING argMax(state, recorded_at) IN ('collected', 'failed', 'compared')
                AND max(recorded_at) BETWEEN now64() - {_FORGOTTEN_UNTIL} AND now64() - {_FORGOTTEN_AFTER}
            """
        )
    except MissingTableError:
        return 0
    return sum(
        _forget_partition(warehouse, table_name, Snapshot(network, date.fromisoformat(day), window), load_id)
        for day, window, table_name, load_id in rows
        if table_name in BY_NAME
    )


def _forget_partition(warehouse: Warehouse, table_name: str, snapshot: Snapshot, load_id: str) -> bool:
    try:
        warehouse.execute(
            f"""
            ALTER TABLE {{database}}.{BY_NAME[table_name].loads}
            FORGET PARTITION ({{processing_date:Date}}, {{window_days:UInt16}}, {{load_id:UUID}})
            """,
            **partition_params(snapshot, load_id),
        )
    except WarehouseError as error:
        if _CANNOT_FORGET not in str(error):  # it is forgotten already, or still has rows on a replica
            raise
        return False
    return True
