"""The shape of what is in a warehouse, and how it differs from that in ``schema/``."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.tables import (
    AUDITS,
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
from pipeline.warehouse.dictionary import view_columns

#: Views come last: they read the tables.
OBJECTS = (LEDGER, PUBLICATIONS, AUDITS, STEPS, CLAIMS, *(table.loads for table in TABLES), *TABLE_VIEWS, *SUMMARIES)

#: Those that keep every row: a Replacing or Summing one would make others of them.
_REPLICATED = {"ReplicatedMergeTree", "SharedMergeTree"}
_ENGINES = {"MergeTree", *_REPLICATED}

#: The engine by which schema/ is compared where tables are replicas; its path does not matter.
_ANY_REPLICA = "ReplicatedMergeTree"

VIEWS = frozenset({*TABLE_VIEWS, *SUMMARIES})


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


@dataclass(frozen=True)
class Inventory:
    """What a warehouse has."""

    existing: dict[str, Existing]  #: of :data:`OBJECTS`, by name, in their order
    database_engine: str  #: '' when there is no database
    is_cloud: bool  #: ClickHouse Cloud, all of whose servers have the same tables


def take_inventory(warehouse: Warehouse) -> Inventory:
    """Return what there is of :data:`OBJECTS`; one query, for every run asks."""
    replica = _ANY_REPLICA if warehouse.is_replicated else ""
    ours = {name: warehouse.named(_query_of(schema_sql(name, replica))) for name in VIEWS}
    ((tables, columns, database_engine, cloud_mode),) = warehouse.query(
        """
        WITH JSONExtract({views:String}, 'Map(String, String)') AS ours
        SELECT
            (
                SELECT groupArray([
                    name,
                    engine,
                    partition_key,
                    if(engine = 'View', as_select, engine_full),
                    create_table_query,
                    comment,
                    if(formatQuerySingleLineOrNull(as_select) = formatQuerySingleLineOrNull(ours[name]), 'ours', '')
                ])
                FROM system.tables
                WHERE database = {name:String}
            ),
            (
                SELECT arraySort(groupArray((table, position, name, type, comment)))
                FROM system.columns
                WHERE database = {name:String}
            ),
            (SELECT any(engine) FROM system.databases WHERE name = {name:String}),
            toString(getSetting('cloud_mode'))
        """,
        name=warehouse.database,
        views=json.dumps(ours),
    )
    comments: dict[str, dict[Column, str]] = defaultdict(dict)
    for table, _, name, type_, comment in columns:
        comments[table][Column(name, type_)] = comment
    found = {
        name: Existing(name, engine, partition_key, text, created_by, comment, comments[name], whose == "ours")
        for name, engine, partition_key, text, created_by, comment, whose in tables
    }
    existing = {name: found[name] for name in OBJECTS if name in found}
    return Inventory(existing, database_engine or "", cloud_mode == "1")


def _query_of(statement: str) -> str:
    """Return the query of a view that a statement creates."""
    return statement[statement.index("\nSELECT") :].strip()


def differences(database: str, found: Existing, *, is_replicated: bool = False) -> Iterator[str]:
    """Yield how an existing table or view differs from the one in ``schema/``."""
    if found.name in VIEWS:
        yield from _view_differences(found)
    elif found.engine not in _ENGINES:
        yield f"{found.name} has engine {found.engine}, expected {_ANY_REPLICA if is_replicated else 'MergeTree'}"
    elif is_replicated and found.engine not in _REPLICATED:
        yield (
            f"{found.name} has engine {found.engine}, expected {_ANY_REPLICA}: its rows are on this host alone; "
            "docs/cluster.md says how to make a replica of it without loading again"
        )
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
    for setting, value in _required_settings(found):
        if _number(found.text, setting) < value:
            yield f"{name} lacks a setting: ALTER TABLE {database}.{name} MODIFY SETTING {setting} = {value}"
    if name != STEPS:
        yield from (f"rows of {name} expire: ALTER TABLE {database}.{name} {undo}" for undo in _expiry(found))


#: By the first, of two rows that follow upon the same one a single one is stored: for a token that ClickHouse has
#: forgotten a second row is. By the other a part that was fetched is on the disk. ClickHouse Cloud has its own.
_REQUIRED = re.compile(r"\b((?:non_)?replicated_deduplication_window\w*|min_compressed_bytes_to_fsync\w*) = (\d+)")


def _required_settings(found: Existing) -> Iterator[tuple[str, int]]:
    """Yield the settings of a table that must be as large as in ``schema/``."""
    if found.engine != "SharedMergeTree":
        statement = schema_sql(found.name, _ANY_REPLICA if found.engine == _ANY_REPLICA else "")
        for setting, value in _REQUIRED.findall(statement):
            yield setting, int(value)


def _number(text: str, setting: str) -> int:
    """Return the value of a setting in an engine's text; 0 where it is not there."""
    found = re.search(rf"\b{setting} = (\d+)", text)
    return int(found[1]) if found else 0


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
