"""Servers that are replicas of each other: processes of their own, a real ZooKeeper, and wires that can be cut."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support.clickhouse import EXCHANGE_HOST, START_SECONDS, ClickHouseError, Keeper, OwnClickHouse, free_ports
from tests.support.wire import Wire
from tests.support.zookeeper import ZooKeeper

_UNREADY = "SELECT count() FROM system.replicas WHERE is_readonly OR is_session_expired"


@dataclass
class Host:
    """A replica, and what leads to it; who asks the server itself goes by none of the wires."""

    server: OwnClickHouse
    native: Wire  #: from the pipeline
    http: Wire  #: from the pipeline
    exchange: Wire  #: from the other replicas
    keeper: Wire  #: to ZooKeeper

    @property
    def address(self) -> str:
        """Its entry in CLICKHOUSE_HOST."""
        return f"{self.server.host}:{self.native.port}:{self.http.port}"


@dataclass
class Cluster:
    """Replicas of one shard, in the order to ask."""

    zookeeper: ZooKeeper
    hosts: list[Host]

    @property
    def servers(self) -> list[OwnClickHouse]:
        """The servers themselves."""
        return [host.server for host in self.hosts]

    def restore(self) -> None:
        """Bring back what was killed, stopped or cut, and wait until every table can be written to.

        Raises ClickHouseError when that takes more than a minute.
        """
        if not self.zookeeper.running:
            self.zookeeper.start()
        for host in self.hosts:
            for wire in (host.native, host.http, host.exchange, host.keeper):
                wire.mend()
            if host.server.running:
                host.server.send_signal(signal.SIGCONT)
            else:
                host.server.start()
        deadline = time.monotonic() + START_SECONDS
        for server in self.servers:
            while int(server.http(_UNREADY)):
                if time.monotonic() > deadline:
                    raise ClickHouseError(f"tables cannot be written to: {server.log_tail()}")
                time.sleep(0.1)


@contextmanager
def running_cluster(directory: Path, replicas: int = 2) -> Iterator[Cluster]:
    """Start a ZooKeeper and servers with the same users; their data is in the directory."""
    zookeeper, password = ZooKeeper(directory / "zookeeper"), None
    with ExitStack() as stack:
        zookeeper.start()
        stack.callback(zookeeper.kill)
        hosts = []
        for number in range(1, replicas + 1):
            name = f"ch{number}"
            (exchange_port,) = free_ports(1)
            to_keeper = stack.enter_context(Wire(("127.0.0.1", zookeeper.port)).running())
            keeper = Keeper(to_keeper.port, name, exchange_port)
            server = OwnClickHouse(directory / name, keeper=keeper, password=password)
            password = server.password
            hosts.append(
                Host(
                    server,
                    stack.enter_context(Wire((server.host, server.port)).running()),
                    stack.enter_context(Wire((server.host, server.http_port)).running()),
                    stack.enter_context(Wire(server.exchange, EXCHANGE_HOST, exchange_port).running()),
                    to_keeper,
                )
            )
        cluster = Cluster(zookeeper, hosts)
        for server in cluster.servers:
            server.more_config = _config(cluster.servers, directory)
            stack.callback(server.stop)
            server.start()
        yield cluster


def _config(servers: list[OwnClickHouse], directory: Path) -> str:
    """Return what lets a Distributed table name the shard, ``all``, and backups go to a directory."""
    replicas = "".join(
        f"<replica><host>{server.host}</host><port>{server.port}</port><user>{server.user}</user>"
        f"<password>{escape(server.password)}</password></replica>"
        for server in servers
    )
    return f"""<remote_servers><all><shard>{replicas}</shard></all></remote_servers>
  <backups><allowed_path>{directory}/backups/</allowed_path></backups>"""
