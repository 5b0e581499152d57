"""The pipeline's warehouses in the test's own process, each with a way to read what is in it without them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from pipeline.clickhouse import ClickHouse
from pipeline.settings import ServerAddress
from pipeline.warehouse import ROLE, Warehouse
from pipeline.warehouse.embedded import EmbeddedWarehouse, Engine
from pipeline.warehouse.server import ServerWarehouse
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import ServerReader


@dataclass
class Databases:
    """Databases of one test's own in a warehouse."""

    connect: Callable[[str], Warehouse]
    parquet: Callable[[str, str], bytes]  #: rows of a query, with ``{db}`` for the database that comes first
    made: list[Warehouse] = field(default_factory=list)

    def new(self) -> Warehouse:
        """Return a new, empty database."""
        warehouse = self.connect(f"t{secrets.token_hex(4)}_torus")
        warehouse.execute("CREATE DATABASE {database}")
        self.made.append(warehouse)
        return warehouse


@contextmanager
def on_server(server: ClickHouseServer) -> Iterator[Databases]:
    """Yield databases on a server; they are dropped in the end."""
    address = ServerAddress(server.host, server.port, server.http_port)
    client = ClickHouse(address, server.user, SecretStr(server.password), secure=False, role=ROLE)
    reader = ServerReader(server, "")
    databases = Databases(lambda name: ServerWarehouse(client, name, 195), reader.parquet)
    yield databases
    for warehouse in databases.made:
        warehouse.execute("DROP DATABASE IF EXISTS {database} SYNC")


@contextmanager
def embedded(directory: Path) -> Iterator[Databases]:
    """Yield databases of an embedded ClickHouse; no other can be open in this process meanwhile."""
    engine = Engine(directory)
    yield Databases(
        lambda name: EmbeddedWarehouse(engine, name, 195),
        lambda name, query: engine.run(query.replace("{db}", name), {}, "Parquet"),
    )
    engine.close()
