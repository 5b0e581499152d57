"""``sot-ingest gc`` removes what nobody names and nobody uses, and nothing else; whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import urllib3

from pipeline.errors import WarehouseError
from pipeline.graph import steps
from pipeline.graph.context import Context
from pipeline.operations import gc, rollback
from pipeline.operations.gc import Garbage, Policy, choose
from pipeline.settings import load_settings
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse, collect, publications, publish
from pipeline.warehouse.collect import PublishedLoads, StoredLoad
from pipeline.warehouse.link import append_link
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import SECONDS, Deployment, ServerReader, a_day, in_directory, run_of
from tests.support.inprocess import ingest
from tests.support.snapshots import Bucket, SnapshotFiles, contract

NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
SNAPSHOT = a_day()
KEEP_TWO = Policy(versions=2, oldest=None, now=NOW)

# What is chosen


def a_load(name: str, *, state: str = "loaded", hours_ago: float = 1, snapshot: Snapshot = SNAPSHOT) -> StoredLoad:
    """Return a load of which something was recorded some hours ago."""
    return StoredLoad(snapshot, "raw_alerts", name, 10, 1_000, state, NOW - timedelta(hours=hours_ago))


def a_publication(*names: str, hours_ago: float = 0.5, action: str = "publish") -> PublishedLoads:
    """Return a publication that names loads."""
    return PublishedLoads(action, NOW - timedelta(hours=hours_ago), frozenset(names))


def chosen(loads: list[StoredLoad], past: list[PublishedLoads], policy: Policy = KEEP_TWO) -> dict[str, str]:
    """Return the reason for each load that may be removed."""
    return {found.load.load_id: found.why for found in choose(loads, {SNAPSHOT: past}, policy)}


def test_the_newest_publications_are_kept() -> None:
    """As many as asked for; a load that one of them has in common with an older one is kept, too."""
    past = [a_publication("a"), a_publication("b", "shared"), a_publication("c"), a_publication("d", "shared")]
    loads = [a_load(name) for name in ("a", "b", "c", "d", "shared")]
    assert chosen(loads, past) == {"a": "superseded", "b": "superseded"}
    assert chosen(loads, past, replace(KEEP_TWO, versions=1)) == dict.fromkeys("abc", "superseded")
    assert chosen(loads, past, replace(KEEP_TWO, versions=9)) == {}


def test_a_rollback_counts_as_a_publication() -> None:
    """What readers see is kept, however old it is; so is what they saw before the rollback, as long as asked for."""
    past = [a_publication("a"), a_publication("b"), a_publication("c"), a_publication("a", action="rollback")]
    assert chosen([a_load(name) for name in "abc"], past) == {"b": "superseded"}


@pytest.mark.parametrize(
    ("state", "hours_ago", "is_removed"),
    [
        ("started", 1, False),  # it may run for an hour
        ("started", 3, True),
        ("failed", 0, True),
        ("forgotten", 0, True),
        ("collected", 0, True),  # by a gc that was killed before it removed the rows
        ("loaded", 6 * 24, False),  # a rerun publishes it without loading
        ("loaded", 8 * 24, True),
    ],
)
def test_a_load_that_was_never_published(state: str, hours_ago: float, is_removed: bool) -> None:
    """It is kept while it can still be of use."""
    found = chosen([a_load("x", state=state, hours_ago=hours_ago)], [])
    assert found == ({"x": "unpublished"} if is_removed else {})


@pytest.mark.parametrize(("state", "is_kept"), [("loaded", True), ("forgotten", False), ("collected", False)])
def test_a_load_that_may_be_accepted_is_kept(state: str, is_kept: bool) -> None:
    """However long an audit has held it, unless it can be published no more."""
    held = a_load("held", state=state, hours_ago=400 * 24)
    assert [found.load.load_id for found in choose([held], {}, KEEP_TWO, {"held"})] == ([] if is_kept else ["held"])


def test_a_proven_load_is_of_no_use_after_a_later_publication() -> None:
    """Another run published other loads; a load that is newer than the publication is for the next one."""
    loads = [a_load("lost", hours_ago=2), a_load("next", hours_ago=0.1)]
    assert chosen(loads, [a_publication("seen", hours_ago=1)]) == {"lost": "unpublished"}


def test_retention_is_about_the_day_of_the_snapshot() -> None:
    """All loads of older days go, what readers see among them; the oldest day to keep is kept."""
    policy = replace(KEEP_TWO, oldest=date(2025, 8, 2))
    kept = a_day("2025-08-02")
    loads = [a_load("a"), a_load("b", snapshot=kept)]
    published = {SNAPSHOT: [a_publication("a")], kept: [a_publication("b")]}
    assert [(found.load.load_id, found.why) for found in choose(loads, published, policy)] == [("a", "past retention")]


# What is done


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def deployment(files: SnapshotFiles, server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """One network."""
    return Deployment(in_directory(files.root), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})


@pytest.fixture
def context(deployment: Deployment, files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch) -> Context:
    """The deployment's, in this process, after it published the snapshot twice."""
    for name, value in deployment.environment.items():
        monkeypatch.setenv(name, value)
    made = Context(load_settings())
    ingest(made, files.snapshot)
    steps.forget(made, files.snapshot, tuple(contract()))
    ingest(made, files.snapshot)
    return made


def policy(*, versions: int = 1, oldest: date | None = None) -> Policy:
    """Return a policy as of now."""
    return Policy(versions, oldest, datetime.now(UTC))


def collected(context: Context, wanted: Policy) -> Garbage:
    """Collect what is found."""
    return gc.remove_garbage(context, wanted, gc.find(context, wanted))


def loads_of(found: Garbage) -> set[str]:
    """Return the ids of loads."""
    return {each.load.load_id for each in found.loads}


def stored_ids(context: Context) -> set[str]:
    """Return the loads that have rows."""
    return {load.load_id for load in collect.stored_loads(context.warehouse("torus"), "torus")}


def half_read(server: ClickHouseServer, query: str) -> urllib3.BaseHTTPResponse:
    """Start to read an answer that is too long for the buffers on its way."""
    headers = {"X-ClickHouse-User": server.user, "X-ClickHouse-Key": server.password}
    url = f"http://{server.host}:{server.http_port}/"
    answer = urllib3.request("POST", url, body=query.encode(), headers=headers, preload_content=False)
    assert answer.read(8) == bytes(8)
    return answer


def test_readers_and_a_run_are_left_alone(
    deployment: Deployment, context: Context, files: SnapshotFiles, clickhouse: ClickHouseServer
) -> None:
    """While a reader is in the middle of a superseded load and others read the view, and a run is in the middle of
    a load: the superseded loads are removed, readers see every row throughout, the run ends well.
    """
    first, second = deployment.publications(files.snapshot)
    old, new = set(first["load_ids"].values()), set(second["load_ids"].values())
    other = Bucket(files.root).snapshot(day=date(2025, 8, 2))
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(len(deployment.rows("raw_features", files.snapshot)))

    reading = half_read(
        clickhouse,
        f"""
        SELECT arrayJoin(range(toUInt64(40_000))) FROM {context.warehouse("torus").database}.raw_features_loads
        WHERE load_id = '{first["load_ids"]["raw_features"]}' FORMAT RowBinary
        """,
    )
    readers = threading.Thread(target=read)
    readers.start()
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
        run = deployment.start(*run_of(other.snapshot), "--workers", "1")
        try:
            assert brake.held.wait(SECONDS)
            found = collected(context, policy())
        finally:
            done.set()
            readers.join()
            brake.released.set()
            stdout, stderr = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, stdout + stderr
    assert loads_of(found) == old
    assert len(reading.read()) == 50 * 40_000 * 8 - 8
    assert set(seen) == {50}
    assert stored_ids(context) == new | set(deployment.published(other.snapshot).values())
    deployment.assert_readers_see(files)
    deployment.assert_readers_see(other)
    assert {load["load_id"] for load in deployment.ledger(files.snapshot) if load["state"] == "collected"} == old


def test_a_publication_that_comes_meanwhile(
    deployment: Deployment, context: Context, files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that somebody is at work on is left; a load that a publication already under way names is kept, and
    told so in the ledger; what is decided before a link and comes after it is void; and after the ledger said that a
    load is collected, no publication names it.
    """
    warehouse = context.warehouse("torus")
    past = publications.publications_of(warehouse, files.snapshot)
    before = {load["load_id"]: load["state"] for load in deployment.ledger(files.snapshot)}
    claims = context.claims
    assert claims is not None
    with claims.held(files.snapshot):
        left = collected(context, policy())
    assert (left.loads, len(left.left)) == ([], 1)

    def publish_first(warehouse: Warehouse, loads: Sequence[StoredLoad], state: str) -> None:
        """Bring the older loads back after gc looked, with an INSERT that looked into the ledger before gc wrote."""
        if state == "collected":
            rollback.roll_back(context, decided)
        mark(warehouse, loads, state)

    mark, decided = collect.mark, rollback.plan_rollback(context, files.snapshot, None)
    with monkeypatch.context() as patched:
        patched.setattr(collect, "mark", publish_first)
        found = collected(context, policy())
    assert (found.loads, len(found.left)) == ([], 1)
    assert {load["load_id"]: load["state"] for load in deployment.ledger(files.snapshot)} == before
    assert [publication.action for publication in publications.publications_of(warehouse, files.snapshot)][2:] == [
        "rollback"
    ]
    deployment.assert_readers_see(files)

    superseded = [
        load for load in collect.stored_loads(warehouse, "torus") if load.load_id in past[1].load_ids.values()
    ]
    collect.mark(warehouse, superseded, "collected")
    wanted = replace(past[1], publication_id=publish.new_id(warehouse), action="rollback")
    with pytest.raises(WarehouseError, match="was collected"):
        publish.publish_after(
            warehouse, files.snapshot, wanted, after=publications.newest_publication(warehouse, files.snapshot)
        )
    assert len(publications.publications_of(warehouse, files.snapshot)) == 3


def test_a_link_makes_void_what_was_decided_before(warehouse: Warehouse) -> None:
    """Of a publication and a link after the same one a single one is first; whoever is second looks again. A link of
    nothing and one of a publication show readers nothing new, and are none of the publications.
    """
    assert append_link(warehouse, SNAPSHOT, None)
    assert append_link(warehouse, SNAPSHOT, None)
    assert publications.publications_of(warehouse, SNAPSHOT) == []
    assert warehouse.query("SELECT 1 FROM {database}.sot_snapshots") == []
    wanted = publications.Publication(
        SNAPSHOT.processing_date,
        195,
        publish.new_id(warehouse),
        "publish",
        "a" * 64,
        {},
        {},
        "s3://a",
        NOW,
        "host",
        "run",
    )
    first = publish.publish_after(warehouse, SNAPSHOT, wanted, after=None)
    assert first
    assert not append_link(warehouse, SNAPSHOT, None)
    seen = warehouse.query("SELECT * EXCEPT age_seconds FROM {database}.sot_snapshots")
    assert seen[0][-1] == 1  # publications
    assert append_link(warehouse, SNAPSHOT, first)
    (linked,) = publications.publications_of(warehouse, SNAPSHOT)
    assert (linked, linked.links) == (first, 1)
    assert collect.all_publications(warehouse, "torus") == {
        SNAPSHOT: [PublishedLoads("publish", first.published_at, frozenset())]
    }
    assert len(seen) == 1
    second = replace(wanted, publication_id=publish.new_id(warehouse))
    assert publish.publish_after(warehouse, SNAPSHOT, second, after=first)  # in its second try: the first was void
    assert not append_link(warehouse, SNAPSHOT, linked)
    assert [each.links for each in publications.publications_of(warehouse, SNAPSHOT)] == [1, 0]


def test_days_past_their_retention(deployment: Deployment, context: Context, files: SnapshotFiles) -> None:
    """A dry run removes nothing and says what would be; then readers see no rows, status says retired, a rollback is
    refused, and a run for the day brings it back.
    """
    command = ("sot-ingest", "gc", "--keep", "1month", "--json")
    dry = json.loads(deployment.command(*command, "--dry-run").stdout)
    deployment.assert_readers_see(files)
    done = json.loads(deployment.command(*command, "--yes").stdout)
    assert done == {**dry, "dry_run": False}
    assert (len(done["loads"]), done["rows"], done["retired"]) == (8, 280, [str(files.snapshot)])
    assert [deployment.rows(table, files.snapshot) for table in contract()] == [[]] * 4
    status = deployment.command("sot-ingest", "status", "--date", "2025-08-01", "--days", "1")
    assert "retired" in status.stdout
    with pytest.raises(WarehouseError, match="was collected"):
        rollback.plan_rollback(context, files.snapshot, None)
    ingest(context, files.snapshot)
    deployment.assert_readers_see(files)


def test_work_files(deployment: Deployment, context: Context, files: SnapshotFiles) -> None:
    """Of a published snapshot and of writers that died; not of one that is half done, nor what is being written."""
    half_done = a_day("2025-08-02")
    for snapshot in (files.snapshot, half_done):
        data = (files.root / files.snapshot.manifest_key).read_bytes()
        context.workspace(snapshot).keep_manifest(data, "file:///bucket/META.json")
    parts = [deployment.work / f".{name}.part" for name in ("dead", "alive")]
    for part in parts:
        part.write_bytes(b"x" * 100)
    yesterday = time.time() - 25 * 3_600
    os.utime(parts[0], (yesterday, yesterday))
    found = collected(context, policy(versions=9))
    assert [(file.path, file.why) for file in found.files] == [
        (context.workspace(files.snapshot).path, "published"),
        (parts[0], "left over"),
    ]
    assert context.workspace(half_done).manifest_path.exists()
    assert not context.workspace(files.snapshot).path.exists()
    assert [part.exists() for part in parts] == [False, True]
