"""Databases, tables and views: created when missing, refused when they have another shape."""

from __future__ import annotations

from collections.abc import Iterable

from loguru import logger

from pipeline.errors import WarehouseError, WarehouseUnavailableError
from pipeline.tables import CLAIMS
from pipeline.warehouse import Warehouse
from pipeline.warehouse.dictionary import comment_of, create_statement, quoted
from pipeline.warehouse.replication import engine_of, is_replicated_database, reachable_hosts, shard_problems
from pipeline.warehouse.shape import OBJECTS, VIEWS, Existing, Inventory, differences, take_inventory
from pipeline.warehouse.whole import require_all_rows


def ensure_schema(warehouse: Warehouse) -> None:
    """Create what is missing, and the comments of what an earlier version made. Writes nothing when all is there.

    So on every host that answers; one that was away gets it with the next run. Raises WarehouseError that shows the
    difference when a table or view exists in another shape, or when hosts are no replicas of each other; then nothing
    is created there.
    """
    _ensure_on_host(warehouse)
    if len(warehouse.hosts) == 1:
        return
    hosts = [warehouse]
    for host in reachable_hosts(warehouse)[1:]:
        try:
            if not is_replicated_database(host):
                _ensure_on_host(host)
            hosts.append(host)
        except WarehouseUnavailableError as error:
            logger.bind(hint=error.hint).warning("A replica is left for the next run: {}", error)
    if problems := list(shard_problems(hosts)):
        raise WarehouseError(
            "; ".join(problems),
            hint="CLICKHOUSE_HOST lists the replicas of one shard: check the list, CLICKHOUSE_REPLICA_PATH, and the "
            "macros of the servers",
        )


def ensure_on_other_hosts(warehouse: Warehouse) -> None:
    """Create on hosts that answer what they lack of this one's tables and views: they were away when it was created.

    Does nothing where there is one host. Raises WarehouseError.
    """
    if len(warehouse.hosts) > 1 and not is_replicated_database(warehouse):
        here = _count_objects(warehouse)
        for host in reachable_hosts(warehouse)[1:]:
            if _count_objects(host) < here:
                _ensure_on_host(host)


def _count_objects(warehouse: Warehouse) -> int:
    count = "SELECT count() FROM system.tables WHERE database = {name:String}"
    ((found,),) = warehouse.query(count, name=warehouse.database)
    return int(found)


def _ensure_on_host(warehouse: Warehouse) -> None:
    existing = check_schema(warehouse)
    missing = [name for name in OBJECTS if name not in existing]
    if len(missing) == len(OBJECTS):
        _create_database(warehouse)
    for name in missing:
        warehouse.retry(lambda name=name: _create(warehouse, name))  # type: ignore[misc]  # bound at once
    _write_comments(warehouse, existing.values())
    if altered := [found.name for found in existing.values() if found.name in VIEWS and not found.is_our_view]:
        hint = "no load needs them: DROP VIEW, and the next run that loads makes them again; or set the window back"
        logger.bind(hint=hint).warning(
            "Other views than this version makes with this INGESTION_WINDOW_DAYS: {}", ", ".join(altered)
        )


def _write_comments(warehouse: Warehouse, existing: Iterable[Existing]) -> None:
    """Write the comments that are not those of the dictionary. A user who may not is a warning: rows need none."""
    try:
        for statement in filter(None, map(_comments, existing)):
            warehouse.execute(statement)
    except WarehouseError as error:
        logger.bind(hint=error.hint).warning("Could not write the comments of tables and columns: {}", error)


def _comments(found: Existing) -> str:
    """Return the ALTER TABLE that makes the comments those of the dictionary; '' when they are. It rewrites no data."""
    wanted = {column: comment_of(found.name, column.name) for column in found.columns}
    changes = [
        f"COMMENT COLUMN `{column.name}` {quoted(text)}"
        for column, text in wanted.items()
        if text not in {"", found.comments[column]}
    ]
    if (text := comment_of(found.name)) not in {"", found.comment}:
        changes.append(f"MODIFY COMMENT {quoted(text)}")
    return f"ALTER TABLE {{database}}.{found.name} {', '.join(changes)}" if changes else ""


def check_schema(warehouse: Warehouse) -> dict[str, Existing]:
    """Return what is there, by name.

    Raises WarehouseError that shows the difference where it has another shape, where this user does not see all rows,
    and where another server, or another replica, would not have what this one has.
    """
    inventory = take_inventory(warehouse)
    existing = inventory.existing
    _require_one_server(warehouse, inventory)
    problems = [
        problem
        for found in existing.values()
        for problem in differences(warehouse.database, found, is_replicated=warehouse.is_replicated)
    ]
    if problems:
        raise WarehouseError(
            f"{warehouse.uri}: not in the shape that the pipeline writes: {'; '.join(problems)}",
            hint="run the ALTER statements if there are any; else rename or drop what is in the way, or point the "
            "network at another database with <NETWORK>_CLICKHOUSE_DATABASE; nothing was changed",
        )
    require_all_rows(warehouse, existing)
    return existing


def _require_one_server(warehouse: Warehouse, inventory: Inventory) -> None:
    """Raise WarehouseError where rows of plain MergeTree tables would be on one server of several.

    ClickHouse Cloud makes SharedMergeTree of them, which all its servers share.
    """
    engines = {found.engine for found in inventory.existing.values()} - {"View"}
    if engines == {"SharedMergeTree"} or inventory.is_cloud:
        return
    if len(servers := warehouse.servers()) > 1:
        raise WarehouseError(
            f"{warehouse.uri}: several servers answer at this address: {', '.join(sorted(servers))}; what is written "
            "to one is not on the others",
            hint="set CLICKHOUSE_HOST to one server, not to a load balancer before several",
        )
    if not warehouse.is_replicated and inventory.database_engine == "Replicated":
        raise WarehouseError(
            f"{warehouse.uri}: the database has engine Replicated: its tables of engine MergeTree exist on every "
            "replica, and the rows of each on one replica alone",
            hint="do not set CLICKHOUSE_REPLICATED=false, or use a database with engine Atomic",
        )


def altered_views(warehouse: Warehouse) -> set[str]:
    """Return the names of the views that are there with another query than this version makes."""
    existing = take_inventory(warehouse).existing
    return {name for name in VIEWS if name in existing and not existing[name].is_our_view}


def ensure_table(warehouse: Warehouse, name: str) -> None:
    """Create one table, and the database, unless they are there; the table's shape is not looked at."""
    _create_database(warehouse)
    _create(warehouse, name)


def _create(warehouse: Warehouse, name: str) -> None:
    warehouse.execute(create_statement(name, engine_of(warehouse, name)))


def ensure_claims(warehouse: Warehouse) -> None:
    """Create the table of claims, which are made before anything else of a run is written.

    Raises WarehouseError, and creates nothing, when a table or view exists in another shape.
    """
    if CLAIMS not in check_schema(warehouse):
        warehouse.retry(lambda: ensure_table(warehouse, CLAIMS))


def _create_database(warehouse: Warehouse) -> None:
    """Create the database unless it is there: a user without the grant to create may find it made for them."""
    found = warehouse.query("SELECT 1 FROM system.databases WHERE name = {name:String}", name=warehouse.database)
    if not found:
        warehouse.retry(lambda: warehouse.execute("CREATE DATABASE IF NOT EXISTS {database}"))
