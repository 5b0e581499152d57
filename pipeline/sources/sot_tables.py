"""The tables of the SOT ClickHouse: how many rows of a snapshot they hold, their digest, their bytes as Parquet.

Only the tables of :data:`SOT_TABLES` are ever read, with SELECT, DESCRIBE and EXPLAIN, so that a user who may do
nothing else is enough (``readonly = 1`` included). Why FINAL and these filters: upstream writes with
ReplacingMergeTree(_version); alerts, features and clusters belong to a date and a window, labels to a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.clickhouse import ClickHouse, Role
from pipeline.clickhouse.pinned import EXPORTING, READING
from pipeline.errors import SourceError, SourceUnavailableError
from pipeline.files.conversion import SCALE, WHOLE_DIGITS
from pipeline.files.digest import content_digest
from pipeline.retry import retry_call
from pipeline.snapshot import Snapshot
from pipeline.tables import CREATED_AT, Table

SOT_TABLES = {
    "raw_alerts": "analyzers_alerts",
    "raw_features": "analyzers_features",
    "raw_clusters": "analyzers_alert_clusters",
    "raw_address_labels": "core_address_labels",
}

#: What a server is when it is the source.
ROLE = Role(
    variables="SOT",
    database_variable="SOT_DATABASE",
    grants="docs/sot.md",
    error=SourceError,
    unavailable=SourceUnavailableError,
    missing=SourceError,
    refused_rows=SourceError,
    pinned={**READING, **EXPORTING},
)

_OF_SNAPSHOT = "processing_date = {processing_date:Date} AND window_days = {window_days:UInt16}"
_OF_NETWORK = "network = {network:String}"

#: In a query plan, before the condition of a row policy.
_ROW_POLICY = re.compile(r"row[- ]level .*?filter column:", re.IGNORECASE)


@dataclass(frozen=True)
class TableState:
    """What a table of the SOT holds for a snapshot."""

    rows: int
    content_digest: str  #: hex; see pipeline.files.digest


SnapshotState = dict[str, TableState]  #: by the name of our table


class SotTables:
    """The tables in one database of a server; ``{network}`` in the database's name stands for the network.

    Methods raise SourceUnavailableError when trying again can help and SourceError when it cannot.
    """

    def __init__(self, server: ClickHouse, database: str) -> None:
        self._server = server
        self._database = database

    def uri(self, network: str | None = None) -> str:
        """Server and database, for people."""
        database = self._database.replace("{network}", network) if network else self._database
        return f"clickhouse://{self._server.address.native}/{database}"

    def state(self, snapshot: Snapshot, tables: Iterable[Table]) -> SnapshotState:
        """Ask for the count and the digest of each table's rows: one scan a table."""
        return {table.name: self.table_state(snapshot, table) for table in tables}

    def table_state(self, snapshot: Snapshot, table: Table) -> TableState:
        """Ask for the count and the digest of a table's rows, over the values as our table stores them.

        Raises SourceError when a row policy hides rows from this user: those that are left would pass for all.
        """
        self.require_all_rows(snapshot.network, table)
        brought = self._columns(snapshot, table)
        values = {
            column.name: f"{{{column.name}:{column.type}}}"
            if column.name in table.snapshot_columns
            else common_form(
                f"`{column.name}`",
                brought.get(column.name),
                column.type,
                null_is_nan=column.name in table.nan_columns,
            )
            for column in table.file_columns
        }
        query = f"SELECT count(), {content_digest(table, values)} {self._rows_of(snapshot, table)}"
        ((rows, digest),) = self._query(snapshot, query)
        return TableState(rows, digest)

    def require_all_rows(self, network: str, table: Table) -> None:
        """Raise SourceError when a row policy filters a table for this user: its query plan says so, to every user."""
        name = f"`{self._database.replace('{network}', network)}`.{SOT_TABLES[table.name]}"
        plan = retry_call(lambda: self._server.query(f"EXPLAIN PLAN actions = 1 SELECT * FROM {name} FINAL", {}))
        if found := next((line for (line,) in plan if _ROW_POLICY.search(line)), None):
            raise SourceError(
                f"{self._server.where}: a row policy hides rows of {name.replace('`', '')} from SOT_USER: "
                f"{_ROW_POLICY.sub('', found).strip()}",
                hint="rows that are hidden would pass for rows that are not there: DROP the row policy for this user, "
                "or give it one with USING 1; nothing was exported",
            )

    def read(self, snapshot: Snapshot, table: Table) -> Iterator[bytes]:
        """Yield a table's rows as Parquet that the server encodes, in pieces of at most 1 MiB.

        With every column but those that are dropped, or say what the snapshot's name says: what is missing or
        unexpected is ValidateFile's to say.
        """
        dropped = {*table.dropped_columns, *table.snapshot_columns, CREATED_AT}
        columns = ", ".join(
            f"{_as_parquet_holds_it(f'`{name}`', kind)} AS `{name}`"
            for name, kind in self._columns(snapshot, table).items()
            if name not in dropped
        )
        statement = f"SELECT {columns} {self._rows_of(snapshot, table)} FORMAT Parquet"
        return self._server.receive(statement, snapshot.as_dict())

    def _columns(self, snapshot: Snapshot, table: Table) -> dict[str, str]:
        """Return names and types of a table's columns, without those that ``SELECT *`` leaves out."""
        rows = self._query(snapshot, f"DESCRIBE TABLE {self._name(snapshot, table)}")
        return {name: kind for name, kind, default, *_ in rows if default in {"", "DEFAULT"}}

    def _rows_of(self, snapshot: Snapshot, table: Table) -> str:
        where = _OF_NETWORK if table.shared else _OF_SNAPSHOT
        return f"FROM {self._name(snapshot, table)} FINAL WHERE {where}"

    def _name(self, snapshot: Snapshot, table: Table) -> str:
        return f"`{self._database.replace('{network}', snapshot.network)}`.{SOT_TABLES[table.name]}"

    def _query(self, snapshot: Snapshot, statement: str) -> list[tuple[Any, ...]]:
        return retry_call(lambda: self._server.query(statement, snapshot.as_dict()))


def _plain(kind: str) -> str:
    """Return a type without what says only how its values are kept, or that they may be missing."""
    while wrapped := re.fullmatch(r"(?:Nullable|LowCardinality)\((.*)\)", kind):
        kind = wrapped[1]
    return kind


def _as_parquet_holds_it(name: str, kind: str) -> str:
    """Return the expression that is exported: text where Parquet would hold numbers or bytes of a fixed length."""
    return f"toString({name})" if _plain(kind).startswith(("Enum", "FixedString")) else name


def common_form(name: str, brought: str | None, stored: str, *, null_is_nan: bool = False) -> str:
    """Return the expression of a value as our table stores it, so that both digests are over the same types.

    It never raises: a value that our table cannot hold becomes the type's default here, and the load, which looks at
    every value, refuses it with its row. ``brought`` is the column's type in the SOT; None when there is no column.
    """
    if brought == stored:
        return name
    plain = _plain(brought or "")
    if (ours := re.fullmatch(r"Array\((.*)\)", stored)) and (theirs := re.fullmatch(r"Array\((.*)\)", plain)):
        return f"arrayMap(value -> {common_form('value', theirs[1], ours[1])}, {name})"
    null = "nan" if null_is_nan and plain.startswith("Float") else "0"
    is_integer, is_number = re.match(r"U?Int", plain), re.match(r"U?Int|Float|Bool", plain)
    match stored:
        case "String" if plain.startswith(("String", "Enum", "FixedString")):
            form = f"ifNull(toString({name}), '')"
        case "Bool" if plain == "Bool":
            form = f"ifNull({name}, false)"
        case "Float32" | "Float64" if is_number:
            form = f"CAST(ifNull({name}, {null}), '{stored}')"
        case _ if stored.startswith("UInt") and is_number:
            form = f"accurateCastOrDefault({name}, '{stored}')"
        case _ if stored.startswith("Decimal") and (is_integer or plain.startswith(("Decimal", "String"))):
            form = _decimal(name, plain, stored)
        case _:
            form = f"defaultValueOfTypeName('{stored}')"
    return form


def _decimal(name: str, plain: str, stored: str) -> str:
    """CAST raises where a decimal may overflow; the way through text, which is slow, gives the default."""
    digits = [int(number) for number in re.findall(r"\d+", plain)]
    if plain.startswith("Decimal") and digits[0] - digits[1] <= WHOLE_DIGITS and digits[1] <= SCALE:
        return f"CAST(ifNull({name}, 0), '{stored}')"
    return f"toDecimal128OrDefault(ifNull(toString({name}), ''), {SCALE})"
