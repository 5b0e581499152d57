"""``sot-ingest plan``: what a run would do and why; it does nothing itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.tables import BY_NAME
from tests.support.deployment import Deployment, EmbeddedReader, a_day, in_directory
from tests.support.snapshots import SMALL, Bucket

STEPS = ["DownloadManifest", "ValidateManifest", "DownloadFile", "ValidateFile", "ValidateChecksum"]
ROWS = SMALL.alerts + SMALL.features + SMALL.clusters + SMALL.address_labels


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """A directory in the bucket's layout."""
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def deployment(bucket: Bucket, tmp_path: Path) -> Deployment:
    """Two networks."""
    networks = {"INGESTION_NETWORKS": "torus,bitcoin"}
    return Deployment(in_directory(bucket.root), EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run", networks)


def plan(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Return what the command says by network, having looked that it wrote nothing into the work directory."""
    before = deployment.work_files()
    result = deployment.command("sot-ingest", "plan", "--date", "2025-08-01", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert deployment.work_files() == before
    return {item["network"]: item for item in json.loads(result.stdout)}


def names(found: dict[str, Any]) -> list[str]:
    """Return the names of a plan's steps."""
    return [step["step"] for step in found["steps"]]


def test_a_plan_of_a_range_is_one_of_each_day(deployment: Deployment, bucket: Bucket) -> None:
    """The oldest first, all networks of a day together; a range that ends before it begins is a mistake."""
    bucket.snapshot()
    command = ["sot-ingest", "plan", "--from", "2025-07-31", "--to", "2025-08-01"]
    found = json.loads(deployment.command(*command, "--json").stdout)
    days = [(item["processing_date"], item["network"], bool(item["steps"])) for item in found]
    before, day = "2025-07-31", "2025-08-01"
    expected = [(before, "torus", False), (before, "bitcoin", False), (day, "torus", True), (day, "bitcoin", False)]
    assert days == expected
    for wrong in (["--to", "2025-07-30"], ["--date", "2025-08-01"]):
        assert deployment.command(*command, *wrong).exit_code == 2


def test_a_plan_follows_a_day_from_the_first_look_to_a_new_manifest(deployment: Deployment, bucket: Bucket) -> None:
    """All steps with bytes and rows; after a bad file what is left; after a run nothing; then only what is new."""
    files = bucket.snapshot()
    sizes = {name: files.path(name).stat().st_size for name in BY_NAME}
    found = plan(deployment)
    assert (found["bitcoin"]["steps"], found["bitcoin"]["reason"]) == ([], "snapshot not at the source")
    assert names(found["torus"]) == [*STEPS, "LoadTable", "AuditSnapshot", "PublishSnapshot", "CleanUp"]
    assert {step["reason"] for step in found["torus"]["steps"]} == {"no proof"}
    assert (found["torus"]["bytes"], found["torus"]["rows"]) == (sum(sizes.values()), ROWS)

    whole = files.path("raw_clusters").read_bytes()
    files.corrupt("raw_clusters", 100)
    assert deployment.run(files.snapshot).exit_code == 30
    half = plan(deployment)["torus"]
    assert names(half) == [*STEPS[2:], "LoadTable", "AuditSnapshot", "PublishSnapshot", "CleanUp"]
    assert half["steps"][0]["tables"] == ["raw_clusters"]
    assert half["bytes"] == sizes["raw_clusters"]

    files.overwrite("raw_clusters", whole, digest=False)
    assert deployment.run(files.snapshot).exit_code == 0
    published = plan(deployment)["torus"]
    assert (published["steps"], published["reason"]) == ([], "published, nothing to do")

    files.delete_row("raw_alerts")
    changed = plan(deployment)["torus"]
    assert changed["reason"] == "manifest changed upstream"
    assert names(changed) == [*STEPS, "LoadTable", "AuditSnapshot", "PublishSnapshot", "CleanUp"]
    (load,) = (step for step in changed["steps"] if step["step"] == "LoadTable")
    assert (load["tables"], load["rows"]) == (["raw_alerts"], SMALL.alerts - 1)
    done = [event.partition(" raw_")[0] for event in deployment.run(files.snapshot).done]
    assert done.count("Loaded table") == 1


def test_a_person_reads_a_plan(deployment: Deployment, bucket: Bucket) -> None:
    """One line a step, why no step is left to do, and the sums; a manifest that is refused says so."""
    bucket.snapshot()
    bucket.snapshot("bitcoin").edit_manifest(lambda meta: meta.update(network="torus"))
    result = deployment.command("sot-ingest", "plan", "--date", "2025-08-01")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["date", "network", "step", "tables", "bytes", "rows", "why"]
    assert lines[1].split() == ["2025-08-01", "torus", "DownloadManifest", "no", "proof"]
    assert any(line.startswith("2025-08-01  bitcoin  ValidateManifest") and "fails: " in line for line in lines)
    assert lines[-1].endswith(f"{ROWS} rows to load")


def test_a_source_that_does_not_answer_is_no_plan(deployment: Deployment, tmp_path: Path) -> None:
    """Exit 35, with what to do."""
    deployment.variables["SOT_PATH"] = str(tmp_path / "nowhere")
    result = deployment.command("sot-ingest", "plan", "--date", str(a_day().processing_date))
    assert result.exit_code == 35
    assert "check SOT_PATH" in result.log()[0]["hint"]
