"""A rerun does what is not proven yet, and nothing else; whatever killed the run before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest

from pipeline.files.workspace import Workspace
from pipeline.snapshot import MANIFEST_NAME
from pipeline.tables import BY_NAME
from tests.support.deployment import (
    ON_SERVER,
    Deployment,
    Reader,
    ServerReader,
    in_bucket,
    in_directory,
    multiset,
    rerun_of,
    run_of,
    selection,
)
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
    """Return how often each file was downloaded, by its name: not META.json, which each look reads."""
    names = (asked.path.partition("?")[0].rpartition("/")[2] for asked in network.asked if asked.method == "GET")
    return Counter(name for name in names if name != MANIFEST_NAME)


def test_a_second_run_does_nothing(from_s3: Deployment, files: SnapshotFiles, network: Misbehaving) -> None:
    """A published day: exit 0, not a byte downloaded, not a row written, no file touched, no step in the log."""
    assert from_s3.run(files.snapshot).exit_code == 0
    assert fetched(network) == {files.path(table).name: 1 for table in contract()}
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
    ("reader", "count"),
    [
        pytest.param("server", 1, marks=pytest.mark.slow),
        ("server", 2),
        pytest.param("server", 3, marks=pytest.mark.slow),
        ("embedded", 2),
    ],
    indirect=["reader"],
)
def test_killed_after_some_tables_were_loaded(deployment: Deployment, files: SnapshotFiles, count: int) -> None:
    """SIGKILL after k of 4 tables: nothing is seen; the rerun loads the others and publishes the loads of both runs.

    Also when the table of another one is gone from a server, which the rerun creates again.
    """
    first = deployment.killed("Loaded table", count, *run_of(files.snapshot), *ONE_AT_A_TIME)
    proven = {table: load_id for table, (load_id,) in deployment.loads(files.snapshot).items()}
    assert count <= len(proven) < len(contract())
    assert [deployment.rows(table, files.snapshot) for table in contract()] == [[]] * 4
    left = contract().keys() - proven.keys()
    if isinstance(deployment.reader, ServerReader):
        database = deployment.reader.prefix + files.snapshot.network
        deployment.reader.server.http(f"DROP TABLE {database}.{min(left)}_loads SYNC")
    result = deployment.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    assert {event["table"] for event in result.events("Loaded table")} == left
    assert not set(first.done) & set(result.done)
    assert {event.rpartition(" ")[2] for event in result.done[:-3]} == left
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
        assert bool(result.events("Downloaded manifest")) == (runs == 0)
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


# One table


def overwrite_labels(bucket: S3Bucket, files: SnapshotFiles) -> None:
    """Let upstream write other labels, which no manifest lists, and remove the features and clusters of the day."""
    bucket.client.put_object(Bucket=bucket.name, Key=files.snapshot.shared_labels_key, Body=b"another export's labels")
    for table in ("raw_features", "raw_clusters"):
        bucket.client.delete_object(Bucket=bucket.name, Key=f"{files.snapshot.folder}/{files.path(table).name}")


def planned(deployment: Deployment, files: SnapshotFiles) -> dict[str, list[str]]:
    """Return the tables of each step that ``sot-ingest plan`` shows."""
    (plan,) = json.loads(deployment.command("sot-ingest", "plan", *selection(files.snapshot), "--json").stdout)
    return {step["step"]: step["tables"] for step in plan["steps"]}


REPAIR_OF_ALERTS = {
    "DownloadManifest": [],
    "ValidateManifest": [],
    **{step: ["raw_alerts"] for step in ("DownloadFile", "ValidateFile", "ValidateChecksum", "LoadTable")},
    "AuditSnapshot": [],
    "PublishSnapshot": [],
    "CleanUp": [],
}


def assert_only_alerts_replaced(deployment: Deployment, files: SnapshotFiles, before: dict[str, str]) -> None:
    """Readers see a new load of the alerts with the rows of its file, and the loads of before of the others."""
    now = deployment.published(files.snapshot)
    assert {table for table in contract() if now[table] != before[table]} == {"raw_alerts"}
    assert multiset(deployment.rows("raw_alerts", files.snapshot)) == multiset(files.expected_rows("raw_alerts"))
    assert deployment.work_files() == {}


def test_a_repair_of_a_table_needs_its_file_only(
    from_s3: Deployment, files: SnapshotFiles, network: Misbehaving
) -> None:
    """``rerun --table``: META.json and one file are fetched, one table is loaded, the other loads stay published."""
    assert from_s3.run(files.snapshot).exit_code == 0
    before = from_s3.published(files.snapshot)
    network.asked.clear()
    result = from_s3.rerun(files.snapshot, "--table", "raw_alerts")
    assert result.exit_code == 0, result.stderr
    assert fetched(network) == {files.path("raw_alerts").name: 1}
    assert {event["table"] for event in result.log() if event.get("table")} == {"raw_alerts"}
    assert_only_alerts_replaced(from_s3, files, before)
    from_s3.assert_readers_see(files)
    assert from_s3.run(files.snapshot).done == []


@ON_SERVER
def test_a_repair_of_a_table_whose_siblings_are_gone_upstream(
    from_s3: Deployment, files: SnapshotFiles, bucket: S3Bucket
) -> None:
    """Labels that no manifest lists, and no other file of the day at the source: the table is repaired all the same."""
    assert from_s3.run(files.snapshot).exit_code == 0
    before = from_s3.published(files.snapshot)
    overwrite_labels(bucket, files)
    result = from_s3.rerun(files.snapshot, "--table", "raw_alerts")
    assert result.exit_code == 0, result.stderr
    assert_only_alerts_replaced(from_s3, files, before)
    from_s3.assert_readers_see(files)


@ON_SERVER
@pytest.mark.parametrize(
    ("after", "left"),
    [
        ("Forgot the proofs", REPAIR_OF_ALERTS),
        ("Validated file", {name: REPAIR_OF_ALERTS[name] for name in ("LoadTable", "AuditSnapshot", "CleanUp")}),
    ],
)
def test_a_repair_that_was_killed_is_completed_by_a_plain_run(
    from_s3: Deployment, files: SnapshotFiles, bucket: S3Bucket, after: str, left: dict[str, list[str]]
) -> None:
    """Killed (SIGKILL) at its begin or in its middle: plan and status name that table's steps, and a run does them.

    The other tables' files are gone at the source meanwhile.
    """
    assert from_s3.run(files.snapshot).exit_code == 0
    before = from_s3.published(files.snapshot)
    overwrite_labels(bucket, files)
    from_s3.killed(after, 1, *rerun_of(files.snapshot), "--table", "raw_alerts", *ONE_AT_A_TIME)
    assert from_s3.published(files.snapshot) == before
    plan = planned(from_s3, files)
    assert left.items() <= plan.items() <= REPAIR_OF_ALERTS.items()
    days = ("--date", str(files.snapshot.processing_date), "--days", "1", "--json")
    seen = json.loads(from_s3.command("sot-ingest", "status", *days).stdout)
    (state,) = [each for each in seen if each["network"] == files.snapshot.network]
    step, *tables = next(iter(plan.items()))
    assert (state["state"], state["step"]) == ("half done", " ".join([step, *tables[0]]))
    result = from_s3.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    assert {event["table"] for event in result.log() if event.get("table")} <= {"raw_alerts"}
    assert_only_alerts_replaced(from_s3, files, before)


@ON_SERVER
def test_a_repair_loads_what_is_damaged_beside_it(deployment: Deployment, files: SnapshotFiles) -> None:
    """A published load that lost rows is not retained: its table is loaded again with the one that was named."""
    assert deployment.run(files.snapshot).exit_code == 0
    before = deployment.published(files.snapshot)
    reader = cast(ServerReader, deployment.reader)
    reader.server.http(f"TRUNCATE TABLE {reader.prefix}torus.raw_features_loads")
    result = deployment.rerun(files.snapshot, "--table", "raw_alerts")
    assert result.exit_code == 0, result.stderr
    now = deployment.published(files.snapshot)
    assert {table for table in contract() if now[table] != before[table]} == {"raw_alerts", "raw_features"}
    deployment.assert_readers_see(files)


@ON_SERVER
def test_a_repair_of_a_day_that_upstream_published_again_loads_the_day(
    deployment: Deployment, files: SnapshotFiles
) -> None:
    """Another manifest since: readers see nothing of it, so all that changed is loaded, not the named table only."""
    assert deployment.run(files.snapshot).exit_code == 0
    before = deployment.published(files.snapshot)
    files.delete_row("raw_clusters")
    result = deployment.rerun(files.snapshot, "--table", "raw_alerts")
    assert result.exit_code == 0, result.stderr
    now = deployment.published(files.snapshot)
    assert {table for table in contract() if now[table] != before[table]} == {"raw_alerts", "raw_clusters"}
    deployment.assert_readers_see(files)


@ON_SERVER
def test_a_repair_after_a_rollback_retains_what_readers_went_back_to(
    deployment: Deployment, files: SnapshotFiles
) -> None:
    """Of two publications of one manifest the rollback chose the first: the repair leaves its other loads published."""
    assert deployment.run(files.snapshot).exit_code == 0
    before = deployment.published(files.snapshot)
    assert deployment.rerun(files.snapshot).exit_code == 0
    rollback = deployment.command("sot-ingest", "rollback", *selection(files.snapshot), "--yes")
    assert rollback.exit_code == 0, rollback.stderr
    assert deployment.published(files.snapshot) == before
    result = deployment.rerun(files.snapshot, "--table", "raw_alerts")
    assert result.exit_code == 0, result.stderr
    assert_only_alerts_replaced(deployment, files, before)
