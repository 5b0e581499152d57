"""A rerun does what is not proven yet, and nothing else; whatever killed the run before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.files.workspace import Workspace
from pipeline.tables import BY_NAME
from tests.support.deployment import ON_SERVER, Deployment, Reader, in_bucket, in_directory, run_of
from tests.support.misbehaving import Misbehaving
from tests.support.s3 import Bucket as S3Bucket
from tests.support.snapshots import Bucket, SnapshotFiles, contract, upload

#: One step at a time, so that the log's k-th event stands for the k-th step.
ONE_AT_A_TIME = ("--workers", "1")


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def deployment(files: SnapshotFiles, reader: Reader, tmp_path: Path) -> Deployment:
    """From the directory."""
    return Deployment(in_directory(files.root), reader, tmp_path / "run")


@pytest.fixture
def network(bucket: S3Bucket, files: SnapshotFiles) -> Iterator[Misbehaving]:
    """What lies between the pipeline and a bucket with the snapshot; it behaves, and says what was asked for."""
    upload(files.root, bucket.client, bucket.name)
    address = urlsplit(bucket.endpoint)
    with Misbehaving((str(address.hostname), int(address.port or 0))).running() as between:
        yield between


@pytest.fixture
def from_s3(network: Misbehaving, bucket: S3Bucket, reader: Reader, tmp_path: Path) -> Deployment:
    """From the bucket."""
    return Deployment(in_bucket(bucket.name, network.url), reader, tmp_path / "run")


def fetched(network: Misbehaving) -> Counter[str]:
    """Return how often each object was downloaded, by the last part of its key."""
    return Counter(asked.path.partition("?")[0].rpartition("/")[2] for asked in network.asked if asked.method == "GET")


def test_a_second_run_does_nothing(from_s3: Deployment, files: SnapshotFiles, network: Misbehaving) -> None:
    """A published day: exit 0, not a byte downloaded, not a row written, no file touched, no step in the log."""
    assert from_s3.run(files.snapshot).exit_code == 0
    assert fetched(network) == {"META.json": 1, **{files.path(table).name: 1 for table in contract()}}
    before = from_s3.written(files.snapshot.network), from_s3.ledger(files.snapshot), from_s3.work_files()
    assert before[2] == {}
    network.asked.clear()
    result = from_s3.run(files.snapshot)
    assert result.exit_code == 0
    assert result.done == []
    assert {asked.method for asked in network.asked} == {"HEAD"}
    assert (from_s3.written(files.snapshot.network), from_s3.ledger(files.snapshot), from_s3.work_files()) == before
    from_s3.assert_readers_see(files)


@pytest.mark.parametrize(
    ("reader", "count"), [("server", 1), ("server", 2), ("server", 3), ("embedded", 2)], indirect=["reader"]
)
def test_killed_after_some_tables_were_loaded(deployment: Deployment, files: SnapshotFiles, count: int) -> None:
    """SIGKILL after k of 4 tables: nothing is seen; the rerun loads the others and publishes the loads of both runs."""
    first = deployment.killed("Loaded table", count, *run_of(files.snapshot), *ONE_AT_A_TIME)
    proven = {table: load_id for table, (load_id,) in deployment.loads(files.snapshot).items()}
    assert count <= len(proven) < len(contract())
    assert [deployment.rows(table, files.snapshot) for table in contract()] == [[]] * 4
    result = deployment.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    left = contract().keys() - proven.keys()
    assert {event["table"] for event in result.events("Loaded table")} == left
    assert not set(first.done) & set(result.done)
    assert {event.rpartition(" ")[2] for event in result.done[:-2]} == left
    assert result.done[-2:] == ["Published snapshot", "Cleaned up"]
    published = deployment.published(files.snapshot)
    assert {table: published[table] for table in proven} == proven
    assert {table: [load_id] for table, load_id in published.items()} == deployment.loads(files.snapshot)
    assert deployment.work_files() == {}
    deployment.assert_readers_see(files)


@ON_SERVER
def test_killed_after_every_download(from_s3: Deployment, files: SnapshotFiles, network: Misbehaving) -> None:
    """Runs that are killed (SIGKILL) after each download: a file that was proven is not fetched again."""
    names = {table: files.path(table).name for table in contract()}
    workspace = Workspace(from_s3.work, files.snapshot)
    proven: set[str] = set()
    runs = 0
    while len(proven) < len(contract()):
        network.asked.clear()
        result = from_s3.killed("Downloaded file", 1, *run_of(files.snapshot), *ONE_AT_A_TIME)
        assert not proven & {event["table"] for event in result.events("Downloaded file")}
        assert not fetched(network).keys() & {names[table] for table in proven}
        assert bool(fetched(network)["META.json"]) == (runs == 0)
        proven = {table for table in contract() if workspace.downloaded_file(BY_NAME[table])}
        runs += 1
    network.asked.clear()
    result = from_s3.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    assert not fetched(network)
    assert "Downloaded" not in "".join(result.done)
    assert from_s3.work_files() == {}
    from_s3.assert_readers_see(files)


@ON_SERVER
def test_killed_between_publication_and_clean_up(deployment: Deployment, files: SnapshotFiles) -> None:
    """Readers see everything; the rerun removes the work files, logs that, and does nothing else."""
    with Workspace(deployment.work, files.snapshot).lock("CleanUp"):  # it waits for us until it is killed
        deployment.killed("Published snapshot", 1, *run_of(files.snapshot))
    deployment.assert_readers_see(files)
    before = deployment.written(files.snapshot.network, but="sot_steps"), deployment.publications(files.snapshot)
    assert f"{files.snapshot}/META.json" in deployment.work_files()
    result = deployment.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    assert result.done == ["Cleaned up"]
    assert (
        deployment.written(files.snapshot.network, but="sot_steps"),
        deployment.publications(files.snapshot),
    ) == before
    assert not deployment.work_files().keys() & {f"{files.snapshot}/META.json"}
    deployment.assert_readers_see(files)
