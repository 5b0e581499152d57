"""A ClickHouse server as the warehouse."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from pipeline.clickhouse import ClickHouse
from pipeline.errors import WarehouseError, WarehouseUnavailableError
from pipeline.files.atomic import pieces
from pipeline.retry import retry_call
from pipeline.tables import PUBLICATIONS
from pipeline.warehouse import (
    PARQUET_SETTINGS,
    WRITE_SETTINGS,
    MissingTableError,
    ParquetInsert,
    Replication,
    Warehouse,
    fill_names,
)
from pipeline.warehouse.rows import moment

T = TypeVar("T")

#: With the 20 tries of ClickHouse's default an INSERT takes 147 s to fail where its host has lost Keeper, and reports
#: progress all the time; with 5 it takes 3 to 7 s, and then another host is asked.
KEEPER_TRIES = {"insert_keeper_max_retries": 5}

#: Seconds that a replica may take to fetch what it lacks, those that a host may take to say that it is there, and for
#: which a host that did not is not asked.
SYNC_SECONDS, THERE_SECONDS, AWAY_SECONDS = 60, 10.0, 30.0

#: Seconds after which the server is asked again for the time: two clocks drift apart by some ms in a minute.
CLOCK_SECONDS = 60.0


class ServerWarehouse:
    """One network's database on a ClickHouse server, which may be one of several replicas."""

    def __init__(
        self, server: ClickHouse, database: str, default_window: int, replication: Replication | None = None
    ) -> None:
        self.database = database
        self._default_window = default_window
        self.uri = f"clickhouse://{server.address.native}/{database}"
        self.replication = replication or Replication()
        self.hosts: Sequence[Warehouse] = (self,)
        self.objects = 0  #: tables and views that its database had when it last said that it is there
        self.server = server
        self._on_unavailable: Callable[[ServerWarehouse], None] | None = None
        self._away_until = 0.0
        self._clock: tuple[float, datetime] | None = None  #: when the server was asked, and what time it was there

    def join(self, hosts: Sequence[ServerWarehouse], on_unavailable: Callable[[ServerWarehouse], None]) -> None:
        """Make it one of several replicas; ``on_unavailable`` is called when it does not answer."""
        self.hosts, self._on_unavailable = hosts, on_unavailable

    @cached_property
    def is_replicated(self) -> bool:
        """Whether tables are replicas; asked once where the settings leave it open."""
        if self.replication.wanted != "auto" or len(self.hosts) > 1:
            return self.replication.wanted != "false"
        rows = self.query(
            f"""
            SELECT engine FROM system.databases WHERE name = {{name:String}}
            UNION ALL
            SELECT engine FROM system.tables WHERE database = {{name:String}} AND name = '{PUBLICATIONS}'
            """,
            name=self.database,
        )
        return any(engine.startswith("Replicated") for (engine,) in rows)

    def query(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; see :class:`pipeline.warehouse.Warehouse`."""
        return self.retry(lambda: self._run(statement, parameters))

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement once; see :class:`pipeline.warehouse.Warehouse`."""
        self._run(statement, parameters, {**WRITE_SETTINGS, **self._keeper_tries})

    def retry(self, call: Callable[[], T]) -> T:
        """Try again unless there is another host to try; see :class:`pipeline.warehouse.Warehouse`."""
        return retry_call(call) if len(self.hosts) == 1 else call()

    def sync(self, *tables: str) -> None:
        """Fetch what other replicas have; see :class:`pipeline.warehouse.Warehouse`."""
        if not self.is_replicated:
            return
        seconds = min(SYNC_SECONDS, int(self.server.answer_seconds))
        for table in tables:
            try:
                self._run(f"SYSTEM SYNC REPLICA {{database}}.{table} LIGHTWEIGHT", {}, {"receive_timeout": seconds})
            except WarehouseUnavailableError as error:
                raise WarehouseUnavailableError(
                    f"{self.uri}: {table} is not known to be up to date: {error}",
                    hint="nothing is decided by what is not known to be the newest: see that Keeper and the other "
                    "replicas can be reached, sot-ingest doctor says which cannot, then run again",
                ) from error

    def now(self) -> datetime:
        """Ask, or count on by this host's clock; see :class:`pipeline.warehouse.Warehouse`."""
        asked = time.monotonic()
        if self._clock is None or asked - self._clock[0] > CLOCK_SECONDS:
            ((micros,),) = self.query("SELECT toUnixTimestamp64Micro(now64(6))")
            self._clock = (asked, moment(micros))
        return self._clock[1] + timedelta(seconds=asked - self._clock[0])

    def answers(self) -> bool:
        """Ask, unless it did not answer a moment ago; see :class:`pipeline.warehouse.Warehouse`."""
        if time.monotonic() < self._away_until:
            return False
        count = "SELECT count() FROM system.tables WHERE database = {name:String}"
        try:
            ((self.objects,),) = self._quick_to_give_up.query(count, {"name": self.database})
        except WarehouseError:
            self._away_until = time.monotonic() + AWAY_SECONDS
            return False
        return True

    @cached_property
    def _quick_to_give_up(self) -> ClickHouse:
        """The server by connections of its own: where packets are lost, one that was made before waits for minutes."""
        return replace(self.server, answer_seconds=min(THERE_SECONDS, self.server.answer_seconds), _clients={})

    def _run(
        self, statement: str, parameters: Mapping[str, Any], settings: Mapping[str, int] | None = None
    ) -> list[tuple[Any, ...]]:
        with self._watched():
            return self.server.query(self.named(statement), parameters, settings)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except WarehouseUnavailableError:
            if self._on_unavailable:
                self._on_unavailable(self)
            raise

    def insert_parquet(self, insert: ParquetInsert, *, query_id: str, report: Callable[[int], None]) -> str:
        """Stream a file over HTTP and hash it on the way; see :class:`pipeline.warehouse.Warehouse`."""
        digest = hashlib.sha256()

        def body() -> Iterator[bytes]:
            for piece in pieces(insert.path):
                digest.update(piece)
                yield piece
                report(len(piece))

        select = insert.select.replace("{input}", f"input({insert.quoted_structure})")
        statement = self.named(f"INSERT INTO {insert.into} {select} FORMAT Parquet")
        settings = {"query_id": query_id, "wait_end_of_query": 1, **PARQUET_SETTINGS, **self._keeper_tries}
        with self._watched():
            self.server.send(statement, insert.parameters, settings, body())
        return digest.hexdigest()

    @property
    def _keeper_tries(self) -> Mapping[str, int]:
        return KEEPER_TRIES if len(self.hosts) > 1 else {}

    def kill(self, query_id: str) -> None:
        """Kill the query and wait for its end; see :class:`pipeline.warehouse.Warehouse`."""
        with contextlib.suppress(MissingTableError):
            self.execute("KILL QUERY WHERE query_id = {query_id:String} SYNC", query_id=query_id)

    def servers(self) -> set[str]:
        """Connect a few times; see :class:`pipeline.warehouse.Warehouse`."""
        return self.retry(self.server.servers)

    def named(self, statement: str) -> str:
        """Return a statement with the names that it leaves open; see :class:`pipeline.warehouse.Warehouse`."""
        return fill_names(statement, self.database, self._default_window)
