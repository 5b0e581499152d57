"""Upstream uploads a folder in the order of its names, META.json among the first: what a run does meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.sources import Source
from pipeline.sources.directory import DirectorySource
from pipeline.sources.s3 import S3Source
from tests.support.deployment import ALONE, Deployment, Result, ServerReader, a_day, in_bucket, in_directory
from tests.support.misbehaving import Misbehaving
from tests.support.s3 import Bucket as S3Bucket
from tests.support.snapshots import Bucket, SnapshotFiles

TABLES = ("raw_alerts", "raw_features", "raw_clusters", "raw_address_labels")


@pytest.fixture
def source(tmp_path: Path) -> Bucket:
    """A bucket in a directory, empty."""
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def deployment(source: Bucket, server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """A deployment that reads it."""
    return Deployment(in_directory(source.root), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})


def assert_waits(result: Result, key: str) -> None:
    """Exit 20, and one line that names the file and does not send anybody to upstream at once."""
    assert result.exit_code == 20, result.stderr
    (error,) = result.errors()
    assert error["step"] == "FindSnapshot"
    assert f"Found no {key} at " in error["message"]
    assert error["hint"].startswith("META.json lists it, and upstream has not uploaded it (yet): run again later")
    assert "out of INGESTION_TABLES" in error["hint"]
    assert "Downloaded manifest" not in [event["message"] for event in result.log()]


@pytest.mark.parametrize("table", TABLES)
def test_a_file_that_is_not_there_yet_is_waited_for(table: str, source: Bucket, deployment: Deployment) -> None:
    """As a snapshot that is not there, whichever file it is; when it has come the same command ingests the day."""
    files = source.snapshot()
    path = files.path(table)
    data = path.read_bytes()
    path.unlink()
    assert_waits(deployment.run(a_day()), path.relative_to(source.root).as_posix())
    assert not (deployment.work / "torus").exists()
    path.write_bytes(data)
    assert deployment.run(a_day()).exit_code == 0
    deployment.assert_readers_see(files)


def test_what_is_not_ingested_is_not_waited_for(source: Bucket, deployment: Deployment) -> None:
    """The manifest lists money flows, too, which nobody needs."""
    files = source.snapshot()
    files.edit_manifest(lambda meta: meta["sha256"].update({"money_flows.parquet": "0" * 64}))
    assert deployment.run(a_day()).exit_code == 0


def test_every_verb_says_the_same(source: Bucket, deployment: Deployment) -> None:
    """The plan has no step, a backfill leaves the day and exits 20, rerun forgets nothing."""
    source.snapshot().path("raw_features").unlink()
    day = ("--date", "2025-08-01", "--network", "torus")
    plan = json.loads(deployment.command("sot-ingest", "plan", *day, "--json").stdout)
    assert "snapshot not at the source" in json.dumps(plan)
    rerun = deployment.command("sot-ingest", "rerun", *day, *ALONE, "--yes")
    assert rerun.exit_code == 20
    assert "features.parquet" in rerun.stderr
    days = ("--from", "2025-08-01", "--to", "2025-08-01", "--network", "torus", *ALONE, "--json")
    backfill = deployment.command("sot-ingest", "backfill", *days)
    assert backfill.exit_code == 20
    assert "not at the source" in backfill.stdout


def test_a_day_that_is_published_again_stays_until_all_is_there(source: Bucket, deployment: Deployment) -> None:
    """The new META.json is there and one of its files is not: exit 20, and readers keep what they have."""
    old = source.snapshot()
    assert deployment.run(a_day()).exit_code == 0
    kept = SnapshotFiles(_copied(source), a_day())
    new = source.snapshot(seed=1)
    path = new.path("raw_clusters")
    data = path.read_bytes()
    path.unlink()
    assert_waits(deployment.run(a_day()), path.relative_to(source.root).as_posix())
    deployment.assert_readers_see(kept)
    assert deployment.run(a_day(), "--wait", "1s").exit_code == 20
    path.write_bytes(data)
    assert deployment.run(a_day()).exit_code == 0
    deployment.assert_readers_see(new)
    assert old.root == new.root


def test_an_old_file_under_a_new_manifest_is_an_error(source: Bucket, deployment: Deployment) -> None:
    """Nobody can tell it from a damaged one: exit 30, with the advice to run again; then all is there."""
    source.snapshot()
    assert deployment.run(a_day()).exit_code == 0
    old = source.root.joinpath("snapshots/torus/2025-08-01/195/clusters.parquet").read_bytes()
    new = source.snapshot(seed=1)
    data = new.path("raw_clusters").read_bytes()
    new.path("raw_clusters").write_bytes(old)
    refused = deployment.run(a_day())
    assert refused.exit_code == 30
    (error,) = refused.errors()
    assert error["hint"].startswith("upstream may be publishing right now: run again; if it stays so, ask upstream")
    new.path("raw_clusters").write_bytes(data)
    assert deployment.run(a_day()).exit_code == 0
    deployment.assert_readers_see(new)


def test_a_run_waits_for_a_late_file(source: Bucket, deployment: Deployment) -> None:
    """``--wait`` looks for it as it looks for a snapshot."""
    source.snapshot().path("raw_features").unlink()
    result = deployment.run(a_day(), "--wait", "1s")
    assert result.exit_code == 20
    assert len(result.events("Waiting for snapshots to be published")) == 1


@pytest.fixture
def network(bucket: S3Bucket) -> Iterator[Misbehaving]:
    """What lies between the pipeline and S3."""
    address = urlsplit(bucket.endpoint)
    with Misbehaving((str(address.hostname), int(address.port or 0))).running() as between:
        yield between


def test_a_published_day_asks_for_no_file(
    source: Bucket, bucket: S3Bucket, network: Misbehaving, server_reader: ServerReader, tmp_path: Path
) -> None:
    """One request, of META.json, as before; a run that has work asks for each file once more than it reads it."""
    source.snapshot()
    bucket.upload(source.root)
    deployment = Deployment(in_bucket(bucket.name, network.url), server_reader, tmp_path / "run")
    assert deployment.run(a_day()).exit_code == 0
    network.asked.clear()
    again = deployment.run(a_day())
    assert (again.exit_code, again.done) == (0, [])
    assert {asked.path.rpartition("/")[2] for asked in network.asked} == {"META.json"}
    assert {asked.method for asked in network.asked} == {"HEAD"}


def in_s3(source: Bucket, bucket: S3Bucket) -> Source:
    """Return the bucket in S3."""
    bucket.upload(source.root)
    return S3Source(bucket.name, endpoint=bucket.endpoint, region="us-east-1")


def on_disk(source: Bucket, _: S3Bucket) -> Source:
    """Return the bucket as a directory."""
    return DirectorySource(source.root)


@pytest.mark.parametrize("kind", [in_s3, on_disk])
def test_a_source_names_all_that_is_missing(
    kind: Callable[[Bucket, S3Bucket], Source], source: Bucket, bucket: S3Bucket
) -> None:
    """Several files at once; a manifest that is refused is there, for the step that reads it says what is wrong."""
    files = source.snapshot()
    assert kind(source, bucket).is_ready(a_day())
    for table in ("raw_alerts", "raw_features"):
        files.path(table).unlink()
    incomplete = kind(source, bucket)
    if isinstance(incomplete, S3Source):
        for name in ("alerts", "features"):
            bucket.client.delete_object(Bucket=bucket.name, Key=f"{a_day().folder}/{name}.parquet")
    assert not incomplete.is_ready(a_day())
    assert incomplete.absence(a_day())[0] == (f"{a_day().folder}/alerts.parquet, no {a_day().folder}/features.parquet")
    files.manifest_path.write_bytes(b"{")
    assert kind(source, bucket).is_ready(a_day())


def _copied(source: Bucket) -> Path:
    """Return a copy of the bucket."""
    copy = source.root.with_name("kept")
    for path in filter(Path.is_file, source.root.rglob("*")):
        target = copy / path.relative_to(source.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return copy
