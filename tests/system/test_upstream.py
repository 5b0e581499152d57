"""What upstream may do to a date that was published: publish it again, rewrite its manifest, supersede its labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo import bucket
from pipeline.snapshot import Snapshot
from tests.support.deployment import (
    ON_SERVER,
    Deployment,
    Reader,
    Result,
    ServerReader,
    a_day,
    in_bucket,
    in_directory,
    rerun_of,
)
from tests.support.inprocess import in_process, refused
from tests.support.s3 import Bucket as S3Bucket
from tests.support.snapshots import LABELS, SMALL, Bucket, SnapshotFiles, contract, upload

EARLIER, LATER = "2025-08-03T00:30:00Z", "2025-08-04T00:30:00Z"


@pytest.fixture
def source(tmp_path: Path) -> Bucket:
    """A directory in the bucket's layout."""
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def deployment(source: Bucket, reader: Reader, tmp_path: Path) -> Deployment:
    """From the directory."""
    return Deployment(in_directory(source.root), reader, tmp_path / "run")


def run(deployment: Deployment, snapshot: Snapshot) -> set[str]:
    """Run successfully and return the tables that were loaded."""
    return loaded(deployment.run(snapshot))


def rerun(deployment: Deployment, snapshot: Snapshot, *options: str) -> set[str]:
    """Rerun successfully and return the tables that were loaded."""
    return loaded(deployment.rerun(snapshot, *options))


def loaded(result: Result) -> set[str]:
    """Return the tables that a successful run loaded."""
    assert result.exit_code == 0, result.stderr
    return {event["table"] for event in result.events("Loaded table")}


def test_a_snapshot_published_again_supersedes(deployment: Deployment, source: Bucket) -> None:
    """Other files under a new manifest: a plain run loads all beside the old rows, which it leaves, and publishes."""
    snapshot = source.snapshot(seed=1).snapshot
    run(deployment, snapshot)
    old = deployment.published(snapshot)
    files = source.snapshot(seed=2)
    assert run(deployment, snapshot) == contract().keys()
    new = deployment.published(snapshot)
    assert not set(old.values()) & set(new.values())
    assert deployment.loads(snapshot) == {table: [old[table], new[table]] for table in contract()}
    for table in contract():
        counted = deployment.query(
            snapshot.network, f"SELECT toString(load_id), count() FROM {{db}}.{table}_loads GROUP BY 1"
        )
        rows = len(files.expected_rows(table))
        assert dict(counted) == {old[table]: rows, new[table]: rows}
    deployment.assert_readers_see(files)
    assert run(deployment, snapshot) == set()


@ON_SERVER
def test_a_file_that_stayed_is_not_loaded_again(deployment: Deployment, source: Bucket) -> None:
    """One of four files changed: that one is loaded, and published with the old loads of the others."""
    files = source.snapshot()
    run(deployment, files.snapshot)
    old = deployment.published(files.snapshot)
    files.delete_row("raw_alerts")
    assert run(deployment, files.snapshot) == {"raw_alerts"}
    new = deployment.published(files.snapshot)
    assert {table for table in contract() if new[table] != old[table]} == {"raw_alerts"}
    deployment.assert_readers_see(files)


@ON_SERVER
def test_a_manifest_that_alone_changed_is_published(deployment: Deployment, source: Bucket) -> None:
    """Another generated_at over the same files: nothing is loaded, the publication names the new manifest."""
    files = source.snapshot()
    run(deployment, files.snapshot)
    files.edit_manifest(lambda meta: meta.update(generated_at=LATER))
    assert run(deployment, files.snapshot) == set()
    first, second = deployment.publications(files.snapshot)
    assert first["load_ids"] == second["load_ids"]
    assert first["manifest_sha256"] != second["manifest_sha256"]
    deployment.assert_readers_see(files)


@ON_SERVER
def test_a_manifest_rewritten_with_equal_bytes_does_nothing(deployment: Deployment, source: Bucket) -> None:
    """Another modification time of META.json in a directory: no step, no row."""
    files = source.snapshot()
    run(deployment, files.snapshot)
    before = deployment.written(files.snapshot.network)
    os.utime(files.manifest_path, (0, 0))
    assert deployment.run(files.snapshot).done == []
    assert deployment.written(files.snapshot.network) == before


def test_a_manifest_uploaded_with_equal_bytes_does_nothing(
    source: Bucket, server_reader: ServerReader, bucket: S3Bucket
) -> None:
    """Another ETag of META.json in S3, as an upload in parts gives: no step, no row."""
    files = source.snapshot()
    upload(source.root, bucket.client, bucket.name)
    deployment = Deployment(in_bucket(bucket.name, bucket.endpoint), server_reader, source.root.parent / "run")
    run(deployment, files.snapshot)
    before = deployment.written(files.snapshot.network)
    this: Any = {"Bucket": bucket.name, "Key": files.snapshot.manifest_key}
    old = bucket.client.head_object(**this)["ETag"]
    parts: Any = {**this, "UploadId": bucket.client.create_multipart_upload(**this)["UploadId"]}
    part = bucket.client.upload_part(**parts, PartNumber=1, Body=files.manifest_path.read_bytes())
    done: Any = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    bucket.client.complete_multipart_upload(**parts, MultipartUpload=done)
    assert bucket.client.head_object(**this)["ETag"] != old
    assert deployment.run(files.snapshot).done == []
    assert deployment.written(files.snapshot.network) == before


@ON_SERVER
def test_a_rerun_loads_everything_again(deployment: Deployment, source: Bucket) -> None:
    """On a published day: four new loads of the same files and one publication more, and then no more.

    With ``--table`` it is one new load, published with those of the others.
    """
    files = source.snapshot()
    run(deployment, files.snapshot)
    old = deployment.published(files.snapshot)
    assert rerun(deployment, files.snapshot) == contract().keys()
    new = deployment.published(files.snapshot)
    assert not set(old.values()) & set(new.values())
    assert len(deployment.publications(files.snapshot)) == 2
    deployment.assert_readers_see(files)
    assert run(deployment, files.snapshot) == set()
    assert deployment.published(files.snapshot) == new
    assert rerun(deployment, files.snapshot, "--table", "raw_alerts") == {"raw_alerts"}
    newest = deployment.published(files.snapshot)
    assert {table for table in contract() if newest[table] != new[table]} == {"raw_alerts"}
    deployment.assert_readers_see(files)


@ON_SERVER
def test_a_rerun_that_was_killed_is_completed_by_a_plain_run(deployment: Deployment, source: Bucket) -> None:
    """Killed after two loads: readers see the old loads; a plain run loads the others and publishes all four."""
    files = source.snapshot()
    run(deployment, files.snapshot)
    old = deployment.published(files.snapshot)
    deployment.killed("Loaded table", 2, *rerun_of(files.snapshot), "--workers", "1")
    assert deployment.published(files.snapshot) == old
    deployment.assert_readers_see(files)
    proven = {table: loads[-1] for table, loads in deployment.loads(files.snapshot).items()}
    assert 2 <= len(proven) < len(contract())
    assert run(deployment, files.snapshot) == contract().keys() - proven.keys()
    new = deployment.published(files.snapshot)
    assert not set(old.values()) & set(new.values())
    assert {table: new[table] for table in proven} == proven
    deployment.assert_readers_see(files)


# Labels that a later export overwrote


def two_days(source: Bucket) -> tuple[SnapshotFiles, SnapshotFiles]:
    """Write a day and the next, whose export overwrote the labels with others: more of them, too."""
    old = source.snapshot(seed=1)
    more = bucket.Rows(**{**vars(SMALL), "address_labels": SMALL.address_labels + 3})
    new = source.snapshot(day=a_day("2025-08-02").processing_date, seed=1, rows=more)
    old.edit_manifest(lambda meta: meta.update(generated_at=EARLIER))
    new.edit_manifest(lambda meta: meta.update(generated_at=LATER))
    return old, new


@ON_SERVER
def test_superseded_labels_are_accepted_and_said_to_be(deployment: Deployment, source: Bucket) -> None:
    """A date rerun after the next day's export: the labels are those of now, and log and ledger say whose they are."""
    old, new = two_days(source)
    result = deployment.run(old.snapshot)
    assert result.exit_code == 0, result.stderr
    told = {event["table"]: event.get("superseded_by") for event in result.events("Downloaded file")}
    recorded = {load["table_name"]: load["superseded_by"] for load in deployment.ledger(old.snapshot)}
    assert {table for table in told if told[table]} == {LABELS}
    assert told[LABELS] == recorded.pop(LABELS) == str(new.snapshot)
    assert set(recorded.values()) == {""}
    deployment.assert_readers_see(old)
    assert deployment.run(old.snapshot).done == []


@ON_SERVER
def test_a_published_date_is_loaded_again_with_superseded_labels(deployment: Deployment, source: Bucket) -> None:
    """``rerun`` for a date that had labels of its own: the labels of now supersede them, for this date only."""
    old = source.snapshot(seed=1)
    run(deployment, old.snapshot)
    own = deployment.published(old.snapshot)[LABELS]
    old, new = two_days(source)
    run(deployment, new.snapshot)
    rerun(deployment, old.snapshot)
    assert deployment.published(old.snapshot)[LABELS] != own
    deployment.assert_readers_see(old)
    deployment.assert_readers_see(new)


def nobody(_: Bucket, new: SnapshotFiles) -> None:
    """The newer manifest is gone."""
    new.manifest_path.unlink()


def an_older_manifest(_: Bucket, new: SnapshotFiles) -> None:
    """The manifest of the next day was written before."""
    new.edit_manifest(lambda meta: meta.update(generated_at="2025-08-02T00:30:00Z"))


def another_digest(_: Bucket, new: SnapshotFiles) -> None:
    """The newer manifest lists other labels than those that are there."""
    new.edit_manifest(lambda meta: meta["sha256"].update({"address_labels.parquet": "0" * 64}))


def another_network(source: Bucket, new: SnapshotFiles) -> None:
    """Only another network's newer manifest lists these labels."""
    other = SnapshotFiles(source.root, a_day("2025-08-02", "bitcoin"))
    other.manifest_path.parent.mkdir(parents=True)
    document = {**new.manifest(), "network": "bitcoin"}
    other.write_manifest(document)
    new.manifest_path.unlink()


@pytest.mark.parametrize("vouched_by", [nobody, an_older_manifest, another_digest, another_network])
def test_superseded_labels_are_refused(
    source: Bucket, server_reader: ServerReader, tmp_path: Path, vouched_by: Any
) -> None:
    """No newer manifest of the same network lists exactly these labels: they are not loaded, the date not published."""
    old, new = two_days(source)
    vouched_by(source, new)
    deployment, context = in_process(source.root, server_reader, tmp_path / "run")
    step, table, error = refused(context, old.snapshot)
    context.close()
    assert "no newer manifest of torus lists it" in str(error)
    assert (step, table) == ("DownloadFile", LABELS)
    assert LABELS not in deployment.loads(old.snapshot)
    assert deployment.publications(old.snapshot) == []


def test_without_a_time_the_newer_date_counts(source: Bucket, server_reader: ServerReader, tmp_path: Path) -> None:
    """Manifests that do not say when they were written: the next day's vouches, the day's does not for the next's."""
    deployment = Deployment(in_directory(source.root), server_reader, tmp_path / "run")
    old, new = two_days(source)
    for files in (old, new):
        files.edit_manifest(lambda meta: meta.pop("generated_at"))
    assert run(deployment, old.snapshot) == contract().keys()
    deployment.assert_readers_see(old)
    source.snapshot(seed=1)  # the labels of the first day again
    old.edit_manifest(lambda meta: meta.pop("generated_at"))
    result = deployment.run(new.snapshot)
    assert result.exit_code == 30
    assert "no newer manifest of torus lists it" in result.errors()[0]["message"]
