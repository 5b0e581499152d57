"""A ClickHouse server as the warehouse."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.clickhouse import ClickHouse
from pipeline.files.atomic import pieces
from pipeline.retry import retry_call
from pipeline.warehouse import PARQUET_SETTINGS, WRITE_SETTINGS, MissingTableError, ParquetInsert, fill_names


class ServerWarehouse:
    """One network's database on a ClickHouse server."""

    def __init__(self, server: ClickHouse, database: str, default_window: int) -> None:
        self.database = database
        self._default_window = default_window
        self.uri = f"clickhouse://{server.address.native}/{database}"
        self._server = server

    def query(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; see :class:`pipeline.warehouse.Warehouse`."""
        return retry_call(lambda: self._server.query(self.named(statement), parameters))

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement once; see :class:`pipeline.warehouse.Warehouse`."""
        self._server.query(self.named(statement), parameters, WRITE_SETTINGS)

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
        settings = {"query_id": query_id, "wait_end_of_query": 1, **PARQUET_SETTINGS}
        self._server.send(statement, insert.parameters, settings, body())
        return digest.hexdigest()

    def kill(self, query_id: str) -> None:
        """Kill the query and wait for its end; see :class:`pipeline.warehouse.Warehouse`."""
        with contextlib.suppress(MissingTableError):
            self.execute("KILL QUERY WHERE query_id = {query_id:String} SYNC", query_id=query_id)

    def servers(self) -> set[str]:
        """Connect a few times; see :class:`pipeline.warehouse.Warehouse`."""
        return retry_call(self._server.servers)

    def named(self, statement: str) -> str:
        """Return a statement with the names that it leaves open; see :class:`pipeline.warehouse.Warehouse`."""
        return fill_names(statement, self.database, self._default_window)
