"""Databases, tables and views: created when missing, refused when they have another shape."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loguru import logger

from pipeline.errors import WarehouseError
from pipeline.retry import retry_call
from pipeline.tables import (
    BY_NAME,
    CLAIMS,
    LEDGER,
    PUBLICATIONS,
    STEPS,
    SUMMARIES,
    TABLE_VIEWS,
    TABLES,
    Column,
    columns_of,
    schema_sql,
)
from pipeline.warehouse import Warehouse
from pipeline.warehouse.dictionary import comment_of, create_statement, quoted, view_columns
from pipeline.warehouse.whole import require_all_rows

#: Views come last: they read the tables.
OBJECTS = (LEDGER, PUBLICATIONS, STEPS, CLAIMS, *(table.loads for table in TABLES), *TABLE_VIEWS, *SUMMARIES)

#: Those that keep every row: a Replacing or Summing one would make others of them.
_ENGINES = {"MergeTree", "ReplicatedMergeTree", "SharedMergeTree"}

#: What tables need in which of two rows that follow upon the same one a single one is stored. Replicated ones have it.
_WINDOW = "non_replicated_deduplication_window = 1000"

_VIEWS = frozenset({*TABLE_VIEWS, *SUMMARIES})


def ensure_schema(warehouse: Warehouse) -> None:
    """Create what is missing, and the comments of what an earlier version made. Writes nothing when all is there.

    Raises WarehouseError that shows the difference when a table or view exists in another shape; then nothing is
    created.
    """
    existing = check_schema(warehouse)
    missing = [name for name in OBJECTS if name not in existing]
    if len(missing) == len(OBJECTS):
        _create_database(warehouse)
    for name in missing:
        retry_call(lambda name=name: warehouse.execute(create_statement(name)))  # type: ignore[misc]  # bound at once
    _write_comments(warehouse, existing.values())
    if altered := [found.name for found in existing.values() if found.name in _VIEWS and not found.is_our_view]:
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
    existing = _existing(warehouse)
    _require_one_server(warehouse, existing)
    problems = [problem for found in existing.values() for problem in _differences(warehouse.database, found)]
    if problems:
        raise WarehouseError(
            f"{warehouse.uri}: not in the shape that the pipeline writes: {'; '.join(problems)}",
            hint="run the ALTER statements if there are any; else rename or drop what is in the way, or point the "
            "network at another database with <NETWORK>_CLICKHOUSE_DATABASE; nothing was changed",
        )
    require_all_rows(warehouse)
    return existing


def _require_one_server(warehouse: Warehouse, existing: dict[str, Existing]) -> None:
    """Raise WarehouseError where rows of plain MergeTree tables would be on one server of several.

    ClickHouse Cloud makes SharedMergeTree of them, which all its servers share.
    """
    engines = {found.engine for found in existing.values()} - {"View"}
    if engines == {"SharedMergeTree"} or warehouse.query("SELECT toString(getSetting('cloud_mode'))") == [("1",)]:
        return
    if len(servers := warehouse.servers()) > 1:
        raise WarehouseError(
            f"{warehouse.uri}: several servers answer at this address: {', '.join(sorted(servers))}; what is written "
            "to one is not on the others",
            hint="set CLICKHOUSE_HOST to one server, not to a load balancer before several",
        )
    kind = warehouse.query("SELECT engine FROM system.databases WHERE name = {name:String}", name=warehouse.database)
    if kind == [("Replicated",)] and (len(existing) < len(OBJECTS) or "MergeTree" in engines):
        raise WarehouseError(
            f"{warehouse.uri}: the database has engine Replicated: its tables of engine MergeTree exist on every "
            "replica, and the rows of each on one replica alone",
            hint="use a database with engine Atomic: make one, and set CLICKHOUSE_HOST to one server and "
            "<NETWORK>_CLICKHOUSE_DATABASE to its name",
        )


def altered_views(warehouse: Warehouse) -> set[str]:
    """Return the names of the views that are there with another query than this version makes."""
    existing = _existing(warehouse)
    return {name for name in _VIEWS if name in existing and not existing[name].is_our_view}


def ensure_table(warehouse: Warehouse, name: str) -> None:
    """Create one table, and the database, unless they are there; the table's shape is not looked at."""
    _create_database(warehouse)
    warehouse.execute(create_statement(name))


def ensure_claims(warehouse: Warehouse) -> None:
    """Create the table of claims, which are made before anything else of a run is written.

    Raises WarehouseError, and creates nothing, when a table or view exists in another shape.
    """
    if CLAIMS not in check_schema(warehouse):
        retry_call(lambda: ensure_table(warehouse, CLAIMS))


def _create_database(warehouse: Warehouse) -> None:
    """Create the database unless it is there: a user without the grant to create may find it made for them."""
    found = warehouse.query("SELECT 1 FROM system.databases WHERE name = {name:String}", name=warehouse.database)
    if not found:
        retry_call(lambda: warehouse.execute("CREATE DATABASE IF NOT EXISTS {database}"))


@dataclass(frozen=True)
class Existing:
    """A table or view as the warehouse has it."""

    name: str
    engine: str
    partition_key: str
    text: str  #: the view's query, or the engine's settings
    created_by: str  #: the statement that creates it
    comment: str
    comments: dict[Column, str]  #: of its columns: none of a view that takes a parameter
    is_our_view: bool  #: its query is the one in ``schema/``

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns, in their order."""
        return tuple(self.comments)


def _existing(warehouse: Warehouse) -> dict[str, Existing]:
    """Return what there is of :data:`OBJECTS`, by name, in their order; three queries, for every load asks."""
    rows = warehouse.query(
        """
        SELECT
            name, engine, partition_key, if(engine = 'View', as_select, engine_full), create_table_query, comment
        FROM system.tables
        WHERE database = {name:String}
        """,
        name=warehouse.database,
    )
    tables = {row[0]: row for row in rows}
    columns = _columns(warehouse) if tables else {}
    ours = _our_views(warehouse, {name: tables[name][3] for name in _VIEWS if name in tables})
    return {
        name: Existing(name, engine, partition_key, text, created_by, comment, columns[name], name in ours)
        for name, engine, partition_key, text, created_by, comment in (
            tables[name] for name in OBJECTS if name in tables
        )
    }


def _columns(warehouse: Warehouse) -> dict[str, dict[Column, str]]:
    """Return the columns of everything in the database with their comments, by its name."""
    rows = warehouse.query(
        """
        SELECT table, name, type, comment
        FROM system.columns
        WHERE database = {database_name:String}
        ORDER BY table, position
        """,
        database_name=warehouse.database,
    )
    found: dict[str, dict[Column, str]] = defaultdict(dict)
    for table, name, type_, comment in rows:
        found[table][Column(name, type_)] = comment
    return found


def _our_views(warehouse: Warehouse, found: dict[str, str]) -> set[str]:
    """Return the names whose queries are those in ``schema/``, all as ClickHouse formats them."""
    views = {name: query for name, query in found.items() if query.startswith("SELECT")}
    if not views:
        return set()
    texts = {}
    for name, query in views.items():
        statement = schema_sql(name)
        texts[f"{name}_found"] = query
        texts[f"{name}_wanted"] = warehouse.named(statement[statement.index("\nSELECT") :].strip())
    formatted = [f"formatQuerySingleLine({{{name}:String}})" for name in texts]
    pairs = [f"{left} = {right}" for left, right in zip(formatted[::2], formatted[1::2], strict=True)]
    ((*same,),) = warehouse.query(f"SELECT {', '.join(pairs)}", **texts)
    return {name for name, equal in zip(views, same, strict=True) if equal}


def _differences(database: str, found: Existing) -> Iterator[str]:
    """Yield how an existing table or view differs from the one in ``schema/``."""
    if found.name in _VIEWS:
        yield from _view_differences(found)
    elif found.engine not in _ENGINES:
        yield f"{found.name} has engine {found.engine}, expected MergeTree"
    else:
        yield from _table_differences(database, found)


def _view_differences(found: Existing) -> Iterator[str]:
    """Yield how a view differs. The query of one that nothing but readers uses stops no load."""
    if found.engine != "View":
        yield f"{found.name} is a table with engine {found.engine}, expected a view"
        return
    if found.columns:
        wanted = tuple(Column(*column) for column in view_columns(found.name))
        yield from _column_differences(found.name, found.columns, wanted)
    if found.name in BY_NAME and not found.is_our_view:
        yield f"{found.name} is another view than this version makes; DROP VIEW, and the next run makes it again"


def _table_differences(database: str, found: Existing) -> Iterator[str]:
    name, wanted = found.name, columns_of(found.name)
    yield from _column_differences(name, found.columns, wanted)
    if name.startswith("sot_") and (missing := _missing(found.columns, wanted)):
        yield f"an earlier version made {name}: ALTER TABLE {database}.{name} {missing}"
    if (expected := _partition_key(name)) != found.partition_key:
        yield f"{name} is partitioned by {found.partition_key!r}, expected {expected!r}"
    if found.engine == "MergeTree" and _WINDOW in schema_sql(name) and _WINDOW not in found.text:
        yield f"{name} lacks a setting: ALTER TABLE {database}.{name} MODIFY SETTING {_WINDOW}"
    if name != STEPS:
        yield from (f"rows of {name} expire: ALTER TABLE {database}.{name} {undo}" for undo in _expiry(found))


#: A TTL that moves rows to another disk, or packs them more tightly, takes none away.
_HARMLESS_TTL = re.compile(r"\b(TO (DISK|VOLUME)|RECOMPRESS)\b")


def _expiry(found: Existing) -> Iterator[str]:
    """Yield the commands of an ALTER TABLE that remove each TTL by which rows or values are deleted."""
    statement = re.sub(r"'(?:[^'\\]|\\.)*'", "''", found.created_by)
    head, _, engine = statement.partition("ENGINE = ")
    for line in re.findall(r"`(\w+)` [^`]*? TTL ", head):
        yield f"MODIFY COLUMN {line} REMOVE TTL"
    _, has_ttl, rest = engine.partition(" TTL ")
    rules = re.split(r", (?![^()]*\))", rest.partition(" SETTINGS ")[0])
    if has_ttl and not all(_HARMLESS_TTL.search(rule) for rule in rules):
        yield "REMOVE TTL"


def _missing(found: tuple[Column, ...], wanted: tuple[Column, ...]) -> str:
    """Return the commands of an ALTER TABLE that add the columns that are not there; rows of before have defaults."""
    names = {column.name for column in found}
    places = zip(wanted, ("FIRST", *(f"AFTER {column.name}" for column in wanted)), strict=False)
    return ", ".join(
        f"ADD COLUMN {column.name} {column.type} {place}" for column, place in places if column.name not in names
    )


def _column_differences(name: str, found: tuple[Column, ...], wanted: tuple[Column, ...]) -> Iterator[str]:
    types = {column.name: column.type for column in found}
    for column in wanted:
        if column.name not in types:
            yield f"{name}.{column.name} is missing, expected {column.type}"
        elif types[column.name] != column.type:
            yield f"{name}.{column.name} is {types[column.name]}, expected {column.type}"
    extra = types.keys() - {column.name for column in wanted}
    yield from (f"{name}.{column} is not expected" for column in sorted(extra))
    if not extra and set(found) == set(wanted) and found != wanted:
        yield f"{name} has its columns in another order"


def _partition_key(name: str) -> str:
    """Return the partition key in ``schema/{name}.sql`` as ClickHouse writes it."""
    _, found, rest = schema_sql(name).partition("PARTITION BY ")
    return rest.splitlines()[0] if found else ""
