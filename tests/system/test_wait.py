"""Those who build on a day: ``sot-ingest wait``, and the task that other luigi pipelines require."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import WarehouseUnavailableError
from pipeline.graph.context import Context
from pipeline.operations import readiness
from pipeline.operations.readiness import readiness_of, wait_until_published
from tests.support.deployment import Deployment, EmbeddedReader, a_day, in_directory
from tests.support.inprocess import in_process, ingest
from tests.support.snapshots import Bucket, SnapshotFiles

WAIT = ("sot-ingest", "wait", "--date", "2025-08-01", "--json")

THEIRS = """
import luigi
from datetime import date
from pipeline.tasks import PublishedSnapshot

class Export(luigi.Task):
    def requires(self):
        return PublishedSnapshot(network="torus", processing_date=date(2025, 8, 1))

    def output(self):
        return luigi.LocalTarget("export.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write("exported")
"""


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def deployment(files: SnapshotFiles, tmp_path: Path) -> Deployment:
    """Two networks, one of which has no snapshot."""
    networks = {"INGESTION_NETWORKS": "torus,bitcoin"}
    return Deployment(in_directory(files.root), EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run", networks)


def waited(deployment: Deployment, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Wait not at all; return the exit code, and by network what is said."""
    result = deployment.command(*WAIT, *options)
    said = json.loads(result.stdout)
    assert said["exit_code"] == result.exit_code
    return result.exit_code, {each["network"]: each for each in said["snapshots"]}


def test_a_day_is_not_yet_there_then_failed_then_published(deployment: Deployment, files: SnapshotFiles) -> None:
    """20, 30 with the newest run's cause, 0 with the publication; the worst of several networks counts."""
    code, said = waited(deployment)
    assert (code, {each["state"] for each in said.values()}) == (20, {"not yet"})
    whole = files.path("raw_alerts").read_bytes()
    files.corrupt("raw_alerts", 100)
    assert deployment.run(files.snapshot).exit_code == 30
    code, said = waited(deployment)
    assert (code, said["torus"]["state"], said["bitcoin"]["state"]) == (30, "failed", "not yet")
    assert said["torus"]["error"].startswith("DownloadFile raw_alerts: ")
    assert said["torus"]["hint"]
    files.path("raw_alerts").write_bytes(whole)
    assert deployment.run(files.snapshot).exit_code == 0
    assert waited(deployment)[0] == 20
    code, said = waited(deployment, "--network", "torus")
    assert (code, said["torus"]["state"]) == (0, "published")
    assert said["torus"]["publication_id"] == deployment.publications(files.snapshot)[0]["publication_id"]
    assert deployment.command(*WAIT[:-1], "--network", "torus").stdout.splitlines()[1].split()[:3] == [
        *("2025-08-01", "torus", "published")
    ]


def test_it_waits_until_the_day_is_published(
    files: SnapshotFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks again and again, past a warehouse that does not answer for a while."""
    _, context = in_process(files.root, EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run")
    looks: list[float] = []

    def look(shared: Context, snapshot: Any) -> readiness.Readiness:
        if len(looks) == 1:
            raise WarehouseUnavailableError("no answer", hint="wait")
        return readiness_of(shared, snapshot)

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            ingest(context, files.snapshot)

    monkeypatch.setattr(readiness, "readiness_of", look)
    monkeypatch.setattr("pipeline.operations.readiness.time.sleep", sleep)
    (found,) = wait_until_published(context, [files.snapshot], timeout=3_600)
    assert found.state == "published"
    assert len(looks) == 2
    assert all(readiness.LOOK_SECONDS <= seconds <= 20 for seconds in looks)
    context.close()


def test_a_warehouse_that_does_not_answer_tells_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """Exit 35, an error as JSON."""
    (tmp_path / "warehouse").touch()
    result = deployment.command(*WAIT)
    assert result.exit_code == 35, result.stderr
    assert json.loads(result.stdout)["errors"]


def test_other_pipelines_require_a_published_day(deployment: Deployment) -> None:
    """Their graph stays theirs: our module imported is not our command, and their task waits for our publication."""
    deployment.directory.mkdir(exist_ok=True)
    (deployment.directory / "theirs.py").write_text(THEIRS)
    deployment.variables["PYTHONPATH"] = str(deployment.directory)
    command = ("luigi", "--module", "theirs", "Export", "--local-scheduler")
    early = deployment.command(*command)
    assert "missing external dependencies" in early.stdout + early.stderr
    assert not (deployment.directory / "export.txt").exists()
    assert deployment.run(a_day()).exit_code == 0
    deployment.command(*command)
    assert (deployment.directory / "export.txt").read_text() == "exported"
