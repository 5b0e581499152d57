"""Where tables go: a ClickHouse server, or ClickHouse embedded in this process; one protocol, the same SQL.

A statement may hold ``{database}`` and ``{default_window}``, which the warehouse replaces, and ``{name:Type}``
parameters, which are bound on the server's side: no value ever becomes part of a statement's text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pipeline.clickhouse import INSERT_SECONDS, Role
from pipeline.clickhouse.pinned import READING, WRITING
from pipeline.errors import WarehouseError, WarehouseUnavailableError

T = TypeVar("T")

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
    "max_execution_time": INSERT_SECONDS,
}


class MissingTableError(WarehouseError):
    """The database or the table does not exist (yet)."""


class RowsRefusedError(WarehouseError):
    """The rows of a file cannot be stored: a conversion raised."""


@dataclass(frozen=True)
class ParquetInsert:
    """An INSERT … SELECT over one Parquet file."""

    path: Path
    into: str  #: the table, with ``{database}``
    select: str  #: with ``{input}`` where the rows come from
    structure: str  #: the file's columns that are read, as ``input()`` takes them
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def quoted_structure(self) -> str:
        """The structure as a string literal: types hold quotes, as in DateTime64(3, 'UTC')."""
        return "'" + self.structure.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True)
class Replication:
    """How tables are made into replicas of those on other hosts."""

    wanted: Literal["auto", "true", "false"] = "auto"  #: auto: where hosts are several, or something is replicated
    path: str = "/clickhouse/tables/{shard}/{database}/{table}"  #: in Keeper, with macros of the servers
    replica: str = "{replica}"
    min_copies: int = 1  #: hosts that must have a load before it counts, and a publication before its step is done


class Warehouse(Protocol):
    """Runs statements in one network's database, on one host.

    Every method raises :class:`~pipeline.errors.WarehouseUnavailableError` when trying again can help,
    :class:`MissingTableError` when there is no such table or database, and
    :class:`~pipeline.errors.WarehouseError` for anything else.
    """

    database: str
    uri: str  #: for people, without credentials
    replication: Replication
    hosts: Sequence[Warehouse]  #: all replicas of the network's shard in the order to ask, this one among them

    @property
    def is_replicated(self) -> bool:
        """Whether tables are replicas of those on other hosts."""

    def sync(self, *tables: str) -> None:
        """Bring tables up to date with all other replicas; nothing is to be decided by them without.

        Does nothing where tables are no replicas.
        """

    def answers(self) -> bool:
        """Tell whether it can be asked, after one quick question."""

    def retry(self, call: Callable[[], T]) -> T:
        """Call until it succeeds, as :func:`pipeline.retry.retry_call` does; once where another host can be asked."""

    def named(self, statement: str) -> str:
        """Return a statement with the database's name and the default window, in days, in their places."""

    def query(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; transient faults are tried again.

        Select only strings, integers, and arrays and maps of them: these are the same in every warehouse.
        """

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement once. An error leaves open whether it took effect."""

    def insert_parquet(self, insert: ParquetInsert, *, query_id: str, report: Callable[[int], None]) -> str:
        """Insert a file's rows and return the SHA-256 of the bytes that were inserted.

        ``report`` is called with bytes as they are sent. Raises RowsRefusedError when a conversion raised. A failed
        insert may have stored some of the rows, and may still be running: see :meth:`kill`.
        """

    def now(self) -> datetime:
        """Return the time by the warehouse's clock, which is asked once a minute; UTC."""

    def kill(self, query_id: str) -> None:
        """Return when no query of that id runs any more."""

    def servers(self) -> set[str]:
        """Return the servers that answer: one, unless something before them chooses."""


def fill_names(statement: str, database: str, default_window: int) -> str:
    """Return a statement with the names that it leaves open; see :meth:`Warehouse.named`."""
    return statement.replace("{database}", f"`{database}`").replace("{default_window}", str(default_window))


#: What a server is when it is the warehouse.
ROLE = Role(
    variables="CLICKHOUSE",
    database_variable="<NETWORK>_CLICKHOUSE_DATABASE",
    grants="docker/grants.sql",
    error=WarehouseError,
    unavailable=WarehouseUnavailableError,
    missing=MissingTableError,
    refused_rows=RowsRefusedError,
    pinned={**READING, **WRITING},
)
