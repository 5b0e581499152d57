"""The shape of what is in a warehouse, and how it differs from that in ``schema/``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

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

#: Whether two queries are formatted alike, once asked: it takes a server 25 ms, and each load of a table needs it.
_SAME: dict[tuple[str, str], bool] = {}


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


def find_existing(warehouse: Warehouse) -> dict[str, Existing]:
    """Return what there is of :data:`OBJECTS`, by name, in their order; few queries, for every load asks."""
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
    ours = _our_views(warehouse, {name: tables[name][3] for name in VIEWS if name in tables})
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
    pairs, engine = {}, _ANY_REPLICA if warehouse.is_replicated else ""
    for name, query in found.items():
        if query.startswith("SELECT"):
            statement = schema_sql(name, engine)
            pairs[name] = query, warehouse.named(statement[statement.index("\nSELECT") :].strip())
    if new := [pair for pair in pairs.values() if pair not in _SAME]:
        texts = {f"text_{number}": text for number, text in enumerate(chain(*new))}
        formatted = [f"formatQuerySingleLine({{{name}:String}})" for name in texts]
        equal = [f"{left} = {right}" for left, right in zip(formatted[::2], formatted[1::2], strict=True)]
        (same,) = warehouse.query(f"SELECT {', '.join(equal)}", **texts)
        _SAME.update(zip(new, map(bool, same), strict=True))
    return {name for name, pair in pairs.items() if _SAME[pair]}


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
