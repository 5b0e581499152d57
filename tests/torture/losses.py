"""What docs/cluster.md says to do when a host, Keeper's data or everything is lost, done to a cluster."""

from __future__ import annotations

import re
import shutil
import time

from clickhouse_driver.errors import ServerException

from tests.support.clickhouse import ROOT, SESSION_SECONDS, OwnClickHouse
from tests.torture import oracle
from tests.torture.case import Case
from tests.torture.site import Site

_PAGE = (ROOT / "docs" / "cluster.md").read_text("utf-8")


def said(pattern: str) -> str:
    """Return a statement of the page. Raises ValueError when it has none."""
    found = re.search(pattern, _PAGE)
    if found is None:
        raise ValueError(f"docs/cluster.md says nothing like {pattern}")
    return found[0]


def _tables(site: Site) -> list[str]:
    query = f"SELECT table FROM system.replicas WHERE database = '{site.database('torus')}' FORMAT TSV"
    return oracle.ask(site.ground.server, query).decode().split()


def _run(site: Site, server: OwnClickHouse, statement: str, table: str = "") -> None:
    """Run a statement of the page about a network's database, or one of its tables."""
    text = statement.replace("torus.sot_publications", f"torus.{table}")
    try:
        server.execute(re.sub(r"\btorus\b", site.database("torus"), text))
    except ServerException as error:
        site.violated(5, f"{statement}: {error.message[:300]}")


def _host_for_good(site: Site) -> None:
    """An empty server takes the place of one that is gone, and its name."""
    first, second = site.ground.servers
    site.check_brought(site.run())
    second.kill()
    shutil.rmtree(second.directory / "data")
    time.sleep(2 * SESSION_SECONDS)
    _run(site, first, said("SYSTEM DROP REPLICA 'its name' FROM DATABASE torus").replace("its name", "ch2"))
    second.start()
    site.check_recovered([], site.run())


def _keepers_data(site: Site) -> None:
    """An empty Keeper takes the place of one whose disk is gone."""
    site.check_brought(site.run())
    tables, zookeeper = _tables(site), site.cluster.zookeeper
    zookeeper.kill()
    shutil.rmtree(zookeeper.directory / "data")
    zookeeper.start()
    for server in site.ground.servers:
        server.stop()
        server.start()
    for server in site.ground.servers:
        for table in tables:
            _run(site, server, said("SYSTEM RESTORE REPLICA torus.sot_publications"), table)
    site.cluster.restore()
    site.check_brought(site.run())
    site.check_recovered([], site.run(site.again()))


def _everything(site: Site) -> None:
    """A backup of one host is restored when no host has the database any more."""
    site.check_brought(site.run())
    first, second = site.ground.servers
    _run(site, first, said(r"BACKUP DATABASE torus TO File\('torus'\)"))
    for server in (first, second):
        server.http(f"DROP DATABASE {site.database('torus')} SYNC")
    _run(site, first, said(r"RESTORE DATABASE torus FROM File\('torus'\)"))
    site.run()
    site.check_recovered([], site.run())


def _distributed(site: Site) -> None:
    """A table over the views of the shards, on any server."""
    site.check_brought(site.run())
    database, (_, other) = site.database("torus"), site.ground.servers
    create = said("CREATE TABLE default.raw_alerts_torus AS .*;").replace("default.", f"{database}.")
    _run(site, other, create.replace("'torus'", f"'{database}'"))
    counts = [other.http(f"SELECT count() FROM {database}.{name}") for name in ("raw_alerts", "raw_alerts_torus")]
    if len(set(counts)) > 1 or counts == ["0\n"] * 2:
        site.violated(2, f"the table over the views has other rows: {counts}")
    other.http(f"DROP TABLE {database}.raw_alerts_torus SYNC")
    site.check_recovered([], site.run())


CASES = (
    Case("a host is lost for good, and an empty one takes its place", _host_for_good),
    Case("Keeper's data is lost", _keepers_data),
    Case("all hosts are lost, and a backup is restored", _everything),
    Case("a Distributed table over the views", _distributed),
)
