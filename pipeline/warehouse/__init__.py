"""Where tables go: a ClickHouse server, or ClickHouse embedded in this process; one protocol, the same SQL.

A statement may hold ``{database}``, which the warehouse replaces, and ``{name:Type}`` parameters, which are bound on
the server's side: no value ever becomes part of a statement's text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import WarehouseError, WarehouseUnavailableError

#: Settings of every statement that writes. async_insert is on by default since 26.3; a block that equals an earlier
#: one must not be dropped on replicated tables; a load belongs to one partition, so a second one is an error.
WRITE_SETTINGS: dict[str, int] = {
    "async_insert": 0,
    "insert_deduplicate": 0,
    "max_partitions_per_insert_block": 1,
}

#: Settings of an INSERT that reads Parquet. The first three stop some drift; the explicit conversions stop the rest.
#: Memory and time are bounded because 8.8 MB of Parquet were seen to unpack to 5.5 GB. Two insert threads are the one
#: setting that was measured to help.
PARQUET_SETTINGS: dict[str, int] = {
    **WRITE_SETTINGS,
    "input_format_parquet_allow_missing_columns": 0,
    "input_format_null_as_default": 0,
    "input_format_skip_unknown_fields": 1,  # only the columns of the structure are read
    "max_insert_threads": 2,
    "max_memory_usage": 12_000_000_000,
    "max_execution_time": 3_600,
}


class MissingTableError(WarehouseError):
    """The database or the table does not exist (yet)."""


class RowsRefusedError(WarehouseError):
    """The rows of a file cannot be stored: a conversion raised, or the file is damaged."""


@dataclass(frozen=True)
class ParquetInsert:
    """An INSERT … SELECT over one Parquet file."""

    path: Path
    into: str  #: the table, with ``{database}``
    select: str  #: with ``{input}`` where the rows come from
    structure: str  #: the file's columns that are read, as ``input()`` takes them: a string literal
    parameters: dict[str, Any] = field(default_factory=dict)


class Warehouse(Protocol):
    """Runs statements in one network's database.

    Every method raises :class:`~pipeline.errors.WarehouseUnavailableError` when trying again can help,
    :class:`MissingTableError` when there is no such table or database, and
    :class:`~pipeline.errors.WarehouseError` for anything else.
    """

    database: str
    uri: str  #: for people, without credentials

    def query(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; transient faults are tried again.

        Select only strings, integers, and arrays and maps of them: these are the same in every warehouse.
        """

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement once. An error leaves open whether it took effect."""

    def insert_parquet(self, insert: ParquetInsert, *, query_id: str, report: Callable[[int], None]) -> str:
        """Insert a file's rows and return the SHA-256 of the bytes that were inserted.

        ``report`` is told of bytes as they are sent. Raises RowsRefusedError when a conversion raised. A failed
        insert may have stored some of the rows, and may still be running: see :meth:`kill`.
        """

    def kill(self, query_id: str) -> None:
        """Return when no query of that id runs any more."""


#: Codes of ClickHouse errors after which trying again can help.
_TRANSIENT = {
    159: "TIMEOUT_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    285: "TOO_FEW_LIVE_REPLICAS",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    999: "KEEPER_EXCEPTION",
}
_MISSING = {60: "UNKNOWN_TABLE", 81: "UNKNOWN_DATABASE"}
_REFUSED_ROWS = {
    6: "CANNOT_PARSE_TEXT",
    33: "CANNOT_READ_ALL_DATA",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    117: "INCORRECT_DATA",
    271: "CANNOT_DECOMPRESS",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    407: "DECIMAL_OVERFLOW",
}
_HINTS = {
    192: "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD",
    193: "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD",
    194: "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD",
    497: "the ClickHouse user lacks a grant; README.md lists those that are needed",
    516: "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD",
}


def error_of_code(code: int, text: str, uri: str) -> WarehouseError:
    """Return the error for a ClickHouse exception. ``text`` is its message; only the first line is kept."""
    message = f"{uri}: ClickHouse error {code}: {text.strip().splitlines()[0][:500] if text.strip() else 'no message'}"
    if code in _TRANSIENT:
        return WarehouseUnavailableError(message, hint="ClickHouse is short of something; run again when it recovered")
    if code in _MISSING:
        return MissingTableError(message, hint="tables are created by the first load")
    if code in _REFUSED_ROWS:
        return RowsRefusedError(message, hint="the rows are damaged, or hold a value that does not fit its column")
    return WarehouseError(message, hint=_HINTS.get(code, "see ClickHouse's own log for the cause"))
