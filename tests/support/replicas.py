"""Two databases of one server as two replicas, which is what two hosts are to each other, and how one of them lags."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from pipeline.clickhouse import ClickHouse
from pipeline.settings import ServerAddress
from pipeline.tables import TABLES
from pipeline.warehouse import ROLE, Replication
from pipeline.warehouse.server import ServerWarehouse
from pipeline.warehouse.shard import Shard
from tests.support.clickhouse import ClickHouseServer


@dataclass
class Replicas:
    """Hosts of one shard."""

    server: ClickHouseServer
    name: str  #: of the shard's own
    min_copies: int = 1

    def host(self, place: int, *, port: int | None = None) -> ServerWarehouse:
        """Return one of the hosts by itself, with connections of its own; another port is that of a host away."""
        address = ServerAddress(self.server.host, port or self.server.port, self.server.http_port)
        client = ClickHouse(address, self.server.user, SecretStr(self.server.password), False, ROLE)
        path = f"/{self.name}/{{table}}"
        replication = Replication("auto", path, "{database}", self.min_copies)
        return ServerWarehouse(client, self.database(place), 195, replication)

    def database(self, place: int) -> str:
        """Return the name of a host's database."""
        return f"{self.name}_{place}"

    def shard(self, *, away: int | None = None, port: int = 1) -> Shard:
        """Return both hosts; the one that is ``away`` does not answer."""
        return Shard([self.host(place, port=port if place == away else None) for place in range(2)])

    def run(self, sql: str) -> None:
        """Run a statement with ``{0}`` and ``{1}`` for the databases."""
        self.server.http(sql.format(self.database(0), self.database(1)))


@contextmanager
def two_replicas(server: ClickHouseServer, *, min_copies: int = 1) -> Iterator[Replicas]:
    """Yield two hosts without any table; their databases are dropped in the end."""
    made = Replicas(server, f"r{secrets.token_hex(4)}", min_copies)
    yield made
    for place in range(2):
        made.server.http(f"DROP DATABASE IF EXISTS {made.database(place)} SYNC")


def store_loads(host: ServerWarehouse, day: str, rows: int) -> dict[str, tuple[str, int]]:
    """Store rows of a new load in each table; return load and count as they are published."""
    loads = {}
    for table in TABLES:
        ((load_id,),) = host.query("SELECT toString(generateUUIDv7())")
        host.execute(
            f"INSERT INTO {{database}}.{table.loads} (processing_date, window_days, load_id) "
            f"SELECT '{day}', 195, '{load_id}' FROM numbers({rows})"
        )
        loads[table.name] = (load_id, rows)
    return loads


def seen(host: ServerWarehouse, day: str, views: str = "{database}") -> Sequence[int]:
    """Return how many rows of a day each view shows, in one query."""
    counts = ", ".join(
        f"(SELECT count() FROM {views}.{table.name} WHERE processing_date = '{day}')" for table in TABLES
    )
    ((*found,),) = host.query(f"SELECT {counts}")
    return [int(count) for count in found]
