"""What readers see while snapshots are published, published again and rolled back: whole ones only, of one version."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from pipeline.clickhouse import ClickHouse
from pipeline.settings import ServerAddress
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLE_VIEWS
from pipeline.warehouse import ROLE
from pipeline.warehouse.publish import publish_loads
from pipeline.warehouse.server import ServerWarehouse
from tests.conftest import own_databases
from tests.support.clickhouse import ClickHouseError, ClickHouseServer
from tests.support.deployment import SECONDS, Deployment, ServerReader, in_directory
from tests.support.inprocess import in_process, ingest
from tests.support.snapshots import Bucket, SnapshotFiles, contract

Seen = tuple[str, ...]  #: a digest of each view's rows, in the order of the tables; "0" is no rows
NOTHING: Seen = ("0",) * 4
#: The views of a table that show the same to a reader of the only day there is.
SUFFIXES = ("", "_as_of(at = '2100-01-01 00:00:00')", "_newest")


def digest(database: str, table: str) -> str:
    """Return the SQL of a digest over a view's rows as a multiset; it shows twice the same row, too."""
    name = next(name for name in contract() if table.startswith(name))
    columns = ", ".join(column for column in contract()[name] if column != "created_at")
    return (
        f"SELECT if(count() = 0, '0', concat(toString(count()), '-', toString(sum(cityHash64({columns}))))) "
        f"FROM {database}.{table} WHERE processing_date = '2025-08-01' AND window_days = 195"
    )


@dataclass
class Poller:
    """Reads all four views in a loop: each with a query, and all with one query."""

    server: ClickHouseServer
    database: str
    one_by_one: list[Seen] = field(default_factory=list)
    at_once: list[Seen] = field(default_factory=list)
    problems: list[Exception] = field(default_factory=list)
    pause: float = 0.0  #: seconds between two looks
    is_there: bool = False  #: all views were there once
    suffixes: Iterator[str] = field(default_factory=lambda: cycle(SUFFIXES))
    stopped: threading.Event = field(default_factory=threading.Event)

    def views(self) -> Seen:
        """Ask for each view by itself."""
        return tuple(self._answer(digest(self.database, table)) or "0" for table in contract())

    def joined(self) -> Seen:
        """Ask for all views in one query."""
        suffix = next(self.suffixes)
        sources = " CROSS JOIN ".join(f"({digest(self.database, table + suffix)}) AS {table}" for table in contract())
        return tuple(self._answer(f"SELECT * FROM {sources}").split("\t")) if self._exists() else NOTHING

    def _exists(self) -> bool:
        if not self.is_there:
            self.is_there = all(self._answer(f"EXISTS {self.database}.{view}") == "1" for view in TABLE_VIEWS)
        return self.is_there

    def _answer(self, query: str) -> str:
        try:
            return self.server.http(query).strip()
        except ClickHouseError as error:
            if self.one_by_one[-1:] in ([], [NOTHING]) and "UNKNOWN_" in str(error):  # before the first run made it
                return ""
            raise

    def loop(self, read: Callable[[], Seen], seen: list[Seen]) -> None:
        """Read until it is stopped."""
        try:
            while not self.stopped.wait(self.pause):
                seen.append(read())
        except Exception as error:  # noqa: BLE001  # a thread's error fails the test that waits for it
            self.problems.append(error)

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Read while the block runs."""
        loops = ((self.views, self.one_by_one), (self.joined, self.at_once))
        threads = [threading.Thread(target=self.loop, args=loop) for loop in loops]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()
        assert not self.problems

    def wait_for_polls(self, more: int) -> Iterator[None]:
        """Yield until both loops have read so many times more."""
        ends = [len(seen) + more for seen in (self.one_by_one, self.at_once)]
        deadline = time.monotonic() + SECONDS
        while any(len(seen) < end for seen, end in zip((self.one_by_one, self.at_once), ends, strict=True)):
            assert not self.problems
            assert time.monotonic() < deadline
            yield


@pytest.fixture
def deployment(server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """A server, for the embedded warehouse has no other readers."""
    return Deployment(in_directory(tmp_path / "bucket"), server_reader, tmp_path / "run")


@pytest.fixture
def poller(clickhouse: ClickHouseServer, database_prefix: str) -> Poller:
    """A reader of torus."""
    return Poller(clickhouse, f"{database_prefix}torus")


def publish_version(deployment: Deployment, bucket: Bucket, poller: Poller, seed: int) -> tuple[SnapshotFiles, Seen]:
    """Publish a snapshot with other rows, and return what readers must see of it from now on."""
    files = bucket.snapshot(seed=seed)
    _, context = in_process(bucket.root, deployment.reader, deployment.directory)
    ingest(context, files.snapshot)
    deployment.assert_readers_see(files)
    return files, poller.views()


def test_readers_see_whole_snapshots_only(deployment: Deployment, poller: Poller, tmp_path: Path) -> None:
    """First publication, two more, ``rerun``: nothing, then each version whole, never an older one or none again."""
    poller.pause = 0.05  # many looks while one table after the other is loaded
    with poller.polling():
        list(poller.wait_for_polls(1))
        versions = [NOTHING]
        for seed in (1, 2, 3):
            files, seen = publish_version(deployment, Bucket(tmp_path / "bucket"), poller, seed)
            versions.append(seen)
        assert len(set(versions)) == 4
        assert deployment.rerun(files.snapshot).exit_code == 0
        assert len(deployment.publications(files.snapshot)) == 4
        list(poller.wait_for_polls(1))
    assert len(poller.one_by_one) + len(poller.at_once) > 20
    order = [versions.index(seen) for seen in poller.at_once]  # one version in all four views
    assert order == sorted(order)
    assert set(order) >= {0, 3}
    views = zip(zip(*poller.one_by_one, strict=True), zip(*versions, strict=True), strict=True)
    for digests, known in views:
        order = [known.index(digest) for digest in digests]
        assert order == sorted(order)
        assert set(order) >= {0, 3}


def test_readers_see_one_version_while_it_changes_all_the_time(
    deployment: Deployment, poller: Poller, tmp_path: Path
) -> None:
    """Two versions published in turn, as fast as it goes: a hundred polls, every one shows all of one version."""
    server = poller.server
    bucket = Bucket(tmp_path / "bucket")
    files, first = publish_version(deployment, bucket, poller, 1)
    files, second = publish_version(deployment, bucket, poller, 2)
    publications = deployment.publications(files.snapshot)
    address = ServerAddress(server.host, server.port, server.http_port)
    account = ClickHouse(address, server.user, SecretStr(server.password), secure=False, role=ROLE)
    warehouse = ServerWarehouse(account, poller.database, 195)
    flips = 0
    with poller.polling():
        for version, _ in zip(cycle(publications), poller.wait_for_polls(25), strict=False):
            publish_loads(
                warehouse,
                files.snapshot,
                manifest_sha256=version["manifest_sha256"],
                source=version["source"],
                loads={table: (version["load_ids"][table], version["row_counts"][table]) for table in contract()},
                run_id="a run",
                is_upstreams=lambda _uri, sha256, now=version["manifest_sha256"]: sha256 == now,  # type: ignore[misc]
            )
            flips += 1
    assert flips > 10
    assert set(poller.at_once) == {first, second}
    for digests, known in zip(zip(*poller.one_by_one, strict=True), zip(first, second, strict=True), strict=True):
        assert set(digests) == set(known)


@pytest.fixture(scope="module")
def published(
    clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, Snapshot]]:
    """A deployment with a snapshot that is published, for tests that each look at another table of it."""
    directory = tmp_path_factory.mktemp("published")
    files = Bucket(directory / "bucket").snapshot()
    with own_databases(clickhouse) as prefix:
        deployment, context = in_process(files.root, ServerReader(clickhouse, prefix), directory / "run")
        ingest(context, files.snapshot)
        yield deployment, files.snapshot


@pytest.mark.parametrize("table", contract())
def test_a_reader_that_stalls_never_misses_the_newest_load(published: tuple[Deployment, Snapshot], table: str) -> None:
    """Queries that take their snapshots of the tables far apart, while the same rows are loaded and published again.

    A query that knew a publication, but not yet the load that it names, would see no row. It takes them in the same
    order when a reader lets ClickHouse put the view's query in the place of its name.
    """
    deployment, snapshot = published
    assert isinstance(deployment.reader, ServerReader)
    server, database = deployment.reader.server, f"{deployment.reader.prefix}torus"
    load_id = deployment.published(snapshot)[table]
    query = digest(database, table)
    stalled = [
        f"{query} SETTINGS merge_tree_storage_snapshot_sleep_ms = 50, analyzer_inline_views = {inlined}"
        for inlined in (0, 1)
    ]
    expected = server.http(query)
    with ThreadPoolExecutor() as pool:
        polls = pool.submit(lambda: [server.http(each) for each in stalled * 6])
        while not polls.done():
            old, load_id = load_id, str(uuid4())
            server.http(
                f"INSERT INTO {database}.{table}_loads SELECT * REPLACE ('{load_id}' AS load_id) "
                f"FROM {database}.{table}_loads AS loads WHERE loads.load_id = '{old}'"
            )
            server.http(
                f"INSERT INTO {database}.sot_publications SELECT * REPLACE (now64(6, 'UTC') AS published_at, "
                f"mapUpdate(load_ids, map('{table}', toUUID('{load_id}'))) AS load_ids) "
                f"FROM {database}.sot_publications AS seen ORDER BY seen.published_at DESC LIMIT 1"
            )
    assert set(polls.result()) == {expected}


def test_a_reader_does_not_hold_all_rows(published: tuple[Deployment, Snapshot]) -> None:
    """A view hands rows on as it reads them, in little memory however many there are, and ends after the first few."""
    deployment, _ = published
    assert isinstance(deployment.reader, ServerReader)
    server, database, load_id = deployment.reader.server, f"{deployment.reader.prefix}torus", str(uuid4())
    rows, megabytes = 1_000_000, 300
    server.http(
        f"INSERT INTO {database}.raw_clusters_loads (processing_date, window_days, cluster_id, pattern_id, load_id) "
        f"SELECT '2025-07-01', 195, toString(number), repeat('x', {megabytes}), '{load_id}' FROM numbers({rows})"
    )
    server.http(
        f"INSERT INTO {database}.sot_publications (processing_date, window_days, published_at, load_ids) "
        f"SELECT '2025-07-01', 195, '2025-07-02', map('raw_clusters', toUUID('{load_id}'))"
    )
    query = f"SELECT * FROM {database}.raw_clusters WHERE processing_date = '2025-07-01'"
    limit = megabytes // 2 * 1_000_000
    counted = server.http(f"SELECT count(), sum(length(pattern_id)) FROM ({query}) SETTINGS max_memory_usage = {limit}")
    assert counted.split() == [str(rows), str(rows * megabytes)]
    few = f"SELECT countIf(pattern_id != '') FROM ({query} LIMIT 10) SETTINGS max_bytes_to_read = {limit}"
    assert server.http(few) == "10\n"


@pytest.mark.parametrize(
    "preferred",
    [
        "join_algorithm = 'full_sorting_merge'",
        "join_algorithm = 'grace_hash'",
        "join_use_nulls = 1",
        "single_join_prefer_left_table = 0",
        "analyzer_inline_views = 1",
    ],
)
def test_a_view_works_whatever_a_reader_prefers(published: tuple[Deployment, Snapshot], preferred: str) -> None:
    """Settings of a reader's query are those of the view's as well; rows are the same."""
    deployment, _ = published
    assert isinstance(deployment.reader, ServerReader)
    server, database = deployment.reader.server, f"{deployment.reader.prefix}torus"
    for table in contract():
        query = digest(database, table)
        assert server.http(f"{query} SETTINGS {preferred}") == server.http(query)
