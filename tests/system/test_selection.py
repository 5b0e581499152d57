"""Which snapshots a run is about: the day, the window, the networks; and where in S3 they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.deployment import ALONE, Deployment, EmbeddedReader, ServerReader, in_bucket, in_directory
from tests.support.misbehaving import Misbehaving
from tests.support.s3 import Bucket as S3Bucket
from tests.support.snapshots import Bucket, upload

#: Wherever the sun stands, at least one of them has another date than UTC.
FAR_EAST, FAR_WEST = "Pacific/Kiritimati", "Etc/GMT+12"


@pytest.fixture
def source(tmp_path: Path) -> Bucket:
    """A directory in the bucket's layout."""
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def deployment(source: Bucket, server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """From the directory."""
    return Deployment(in_directory(source.root), server_reader, tmp_path / "run")


def yesterday() -> date:
    """Return the day before this one, in UTC."""
    return datetime.now(UTC).date() - timedelta(days=1)


@pytest.mark.parametrize(
    "command",
    [
        ("sot-ingest", "run", *ALONE),
        ("sot-ingest", "run", "--date", "yesterday", *ALONE),
        pytest.param(("sot-ingest", "run", "--date", "-1d", *ALONE), marks=pytest.mark.slow),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--local-scheduler"),
    ],
)
def test_the_day_is_yesterday_in_utc(
    source: Bucket, server_reader: ServerReader, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Whatever the machine's time zone; midnight may pass meanwhile, for then either day is right."""
    deployment = Deployment(in_directory(source.root), server_reader, tmp_path / "run")
    before = yesterday()
    days = [source.snapshot(day=before + timedelta(days=later)) for later in (0, 1)]
    for zone in (FAR_EAST, FAR_WEST):
        deployment.variables = {"TZ": zone, "INGESTION_NETWORKS": "torus"}
        result = deployment.command(*command)
        assert result.exit_code == 0, result.stderr
    published = {files.snapshot.processing_date for files in days if deployment.publications(files.snapshot)}
    assert published
    assert before <= min(published) <= max(published) <= yesterday()


def test_windows_of_a_day_live_side_by_side(deployment: Deployment, source: Bucket) -> None:
    """``--window-days`` wins over INGESTION_WINDOW_DAYS; publishing one window leaves the other as it was."""
    long, short = source.snapshot(seed=1), source.snapshot(window_days=30, seed=1)
    deployment.variables = {"INGESTION_WINDOW_DAYS": "30", "INGESTION_NETWORKS": "torus"}
    day = ("--date", "2025-08-01", *ALONE)
    assert deployment.command("sot-ingest", "run", *day).exit_code == 0
    assert deployment.publications(long.snapshot) == []
    deployment.assert_readers_see(short)
    short_loads = deployment.published(short.snapshot)
    long.labels_inside = True  # upstream wrote the short window's labels last; the long one's own lie in its folder
    long.replace_table("raw_address_labels", short.table("raw_address_labels"))
    assert deployment.command("sot-ingest", "run", *day, "--window-days", "195").exit_code == 0
    deployment.assert_readers_see(long)
    deployment.assert_readers_see(short)
    assert deployment.published(short.snapshot) == short_loads


def test_a_run_is_about_the_networks_that_are_named(deployment: Deployment, source: Bucket) -> None:
    """``--network`` twice: those two, each into its own database, and not the third, which is configured too."""
    files = {network: source.snapshot(network) for network in ("ethereum", "bitcoin", "torus")}
    result = deployment.command(
        *("sot-ingest", "run", "--date", "2025-08-01", *ALONE),
        *("--network", "torus", "--network", "bitcoin"),
    )
    assert result.exit_code == 0, result.stderr
    assert {event["network"] for event in result.log() if "network" in event} == {"torus", "bitcoin"}
    for network in ("torus", "bitcoin"):
        deployment.assert_readers_see(files[network])
    assert deployment.ledger(files["ethereum"].snapshot) == []


@pytest.fixture
def network(bucket: S3Bucket) -> Iterator[Misbehaving]:
    """What lies between the pipeline and S3; it behaves, and says what was asked for."""
    address = urlsplit(bucket.endpoint)
    with Misbehaving((str(address.hostname), int(address.port or 0))).running() as between:
        yield between


def test_a_bucket_may_hold_snapshots_under_a_prefix(
    source: Bucket, bucket: S3Bucket, server_reader: ServerReader, network: Misbehaving
) -> None:
    """SOT_S3_PREFIX, with slashes at its ends or not: nothing outside it is asked for, and it is one place."""
    files = source.snapshot()
    upload(source.root, bucket.client, bucket.name, prefix="exports/sot/")
    deployment = Deployment(in_bucket(bucket.name, network.url), server_reader, source.root.parent / "run")
    deployment.variables = {"SOT_S3_PREFIX": "/exports/sot/"}
    result = deployment.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    deployment.variables = {"SOT_S3_PREFIX": "exports/sot"}
    assert deployment.run(files.snapshot).done == []
    objects = {asked.path for asked in network.asked} - {f"/{bucket.name}"}  # HEAD of the bucket: is it there?
    assert all(path.startswith(f"/{bucket.name}/exports/sot/") for path in objects)
    deployment.assert_readers_see(files)


def test_a_public_bucket_needs_no_credentials(
    source: Bucket, bucket: S3Bucket, server_reader: ServerReader, network: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SOT_S3_ANONYMOUS=true without any credentials: no request is signed; without it, the run says what is missing."""
    files = source.snapshot()
    upload(source.root, bucket.client, bucket.name)
    bucket.client.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    for item in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]:
        bucket.client.put_object_acl(Bucket=bucket.name, Key=item["Key"], ACL="public-read")
    deployment = Deployment(in_bucket(bucket.name, network.url), server_reader, source.root.parent / "run")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert deployment.run(files.snapshot).exit_code != 0
    assert network.asked == []
    deployment.variables = {"SOT_S3_ANONYMOUS": "true"}
    assert deployment.run(files.snapshot).exit_code == 0
    assert network.asked
    assert not [asked for asked in network.asked if "authorization" in asked.headers]
    deployment.assert_readers_see(files)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    network.asked.clear()
    assert deployment.run(files.snapshot).done == []  # credentials that are there are not used either
    assert not [asked for asked in network.asked if "authorization" in asked.headers]


def test_a_run_answers_in_json(source: Bucket, tmp_path: Path) -> None:
    """How it ended, and what readers see of each snapshot; the log is on the other stream."""
    files = source.snapshot()
    deployment = Deployment(in_directory(source.root), EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run")
    for day, code in (("2025-08-01", 0), ("2025-08-02", 20)):
        command = ("sot-ingest", "run", "--date", day, "--network", "torus", *ALONE, "--json")
        answer = json.loads(deployment.command(*command).stdout)
        assert answer["exit_code"] == code
        (seen,) = answer["snapshots"]
        assert seen["processing_date"] == day
        assert seen["rows"] == (deployment.publications(files.snapshot)[0]["row_counts"] if code == 0 else None)
