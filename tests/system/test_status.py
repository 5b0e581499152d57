"""``sot-ingest status``: what is published, half done and at which step, and missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import Deployment, Reader, a_day, in_directory, run_of
from tests.support.snapshots import Bucket, SnapshotFiles


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def deployment(files: SnapshotFiles, reader: Reader, tmp_path: Path) -> Deployment:
    """One network."""
    return Deployment(in_directory(files.root), reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})


def status(deployment: Deployment, *options: str) -> list[dict[str, Any]]:
    """Return what the command says as JSON, the newest day first."""
    result = deployment.command("sot-ingest", "status", "--date", "2025-08-02", "--json", *options)
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_days_are_published_or_missing(deployment: Deployment, files: SnapshotFiles) -> None:
    """Also before there is a database; a published day says rows, moment and manifest."""
    assert [(day["state"], day["rows"]) for day in status(deployment, "--days", "2")] == [("missing", None)] * 2
    assert deployment.run(files.snapshot).exit_code == 0
    missing, published = status(deployment, "--days", "2")
    (publication,) = deployment.publications(files.snapshot)
    assert (missing["processing_date"], missing["state"]) == ("2025-08-02", "missing")
    assert (published["processing_date"], published["state"], published["step"]) == ("2025-08-01", "published", None)
    assert published["rows"] == publication["row_counts"]
    assert published["manifest_sha256"] == publication["manifest_sha256"]


def test_a_run_that_failed_is_half_done_at_its_step(deployment: Deployment, files: SnapshotFiles) -> None:
    """A bad file: the step that the rerun starts with, and the tables that it is missing for."""
    files.corrupt("raw_clusters", 100)
    assert deployment.run(files.snapshot).exit_code == 30
    _, day = status(deployment, "--days", "2")
    assert day["state"] == "half done"
    assert day["step"].startswith("DownloadFile")
    assert "raw_clusters" in day["step"]


def test_a_killed_load_is_half_done_even_without_the_work_directory(
    deployment: Deployment, files: SnapshotFiles, tmp_path: Path
) -> None:
    """The ledger tells what another host did."""
    deployment.killed("Loaded table", 1, *run_of(files.snapshot), "--workers", "1")
    _, here = status(deployment, "--days", "2")
    assert here["state"] == "half done"
    assert here["step"].startswith("DownloadFile")
    assert "raw_features" not in here["step"]
    elsewhere = Deployment(deployment.source, deployment.reader, tmp_path / "elsewhere", deployment.variables)
    assert status(elsewhere, "--days", "2")[1]["state"] == "half done"


def test_networks_can_be_named(deployment: Deployment) -> None:
    """Each once; others are left out."""
    deployment.variables["INGESTION_NETWORKS"] = "torus,bitcoin"
    assert [day["network"] for day in status(deployment, "--days", "1")] == ["torus", "bitcoin"]
    found = status(deployment, "--days", "1", "--network", "bitcoin", "--network", "bitcoin")
    assert [day["network"] for day in found] == ["bitcoin"]


def test_a_person_reads_a_table(deployment: Deployment, files: SnapshotFiles) -> None:
    """One line a day and network, whole without a terminal."""
    assert deployment.run(files.snapshot).exit_code == 0
    result = deployment.command("sot-ingest", "status", "--date", "2025-08-01", "--days", "1")
    heading, line = result.stdout.splitlines()
    assert heading.split()[:3] == ["date", "network", "state"]
    assert line.split()[:7] == ["2025-08-01", "torus", "published", "30", "50", "20", "40"]
    assert deployment.publications(a_day())[0]["manifest_sha256"][:12] in line
