"""Done is what a task's target says: what a run would do, ``status``, ``plan`` and ``gc`` say too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline import settings
from pipeline.cli import status as status_command
from pipeline.graph import context as contexts
from pipeline.runs import process
from pipeline.tables import TABLES
from pipeline.warehouse.server import ServerWarehouse
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, ServerReader, a_day, in_directory
from tests.support.inprocess import in_process
from tests.support.inprocess import ingest as ingest_in_process
from tests.support.snapshots import Bucket, SnapshotFiles
from tests.support.sot import Sot, at, context_of, ingest

SNAPSHOT = a_day()
DATE = SNAPSHOT.processing_date.isoformat()


class KilledError(Exception):
    """A process that ended where it was."""


def kill() -> None:
    """End a run."""
    raise KilledError


def said(deployment: Deployment, *command: str) -> Any:
    """Return what a command says as JSON, having looked that it wrote nothing into the work directory."""
    before = deployment.work_files()
    result = deployment.command("sot-ingest", *command, "--json")
    assert result.exit_code == 0, result.stderr
    assert deployment.work_files() == before
    return json.loads(result.stdout)


def next_step(deployment: Deployment) -> tuple[str, str | None]:
    """Return the state and the next step of the day."""
    (day,) = said(deployment, "status", "--date", DATE, "--days", "1")
    return day["state"], day["step"]


def planned(deployment: Deployment) -> list[tuple[str, list[str]]]:
    """Return the steps that a run would do, with their tables."""
    (found,) = said(deployment, "plan", "--date", DATE)
    return [(step["step"], step["tables"]) for step in found["steps"]]


def done(deployment: Deployment) -> list[str]:
    """Run, and return the names of the steps that did something."""
    assert deployment.run(SNAPSHOT).exit_code == 0
    query = "SELECT step FROM {db}.sot_steps WHERE state = 'done' GROUP BY step, run_id"
    (run,) = deployment.query("torus", "SELECT argMax(run_id, recorded_at) FROM {db}.sot_steps")
    return [step for (step,) in deployment.query("torus", query.replace("WHERE", f"WHERE run_id = '{run[0]}' AND"))]


def test_hosts_with_different_manifests_of_the_same_rows(
    clickhouse: ClickHouseServer, database_prefix: str, server_reader: ServerReader, samples: Path, tmp_path: Path
) -> None:
    """The other host published while this one was killed before it did: nothing but CleanUp is left to do here.

    The SOT ClickHouse has no manifest of its own, and those that two hosts write differ in when they were written.
    """
    sot = Sot(clickhouse, f"{database_prefix}sot")
    sot.fill(SnapshotFiles(samples, SNAPSHOT))
    here, there = (Deployment(sot.variables(), server_reader, tmp_path / name) for name in ("here", "there"))
    with pytest.raises(KilledError):
        ingest(here, SNAPSHOT, at("DownloadFile raw_features", kill))
    ingest(there, SNAPSHOT)
    on_disk = context_of(here).workspace(SNAPSHOT).downloaded_manifest()
    (published,) = here.publications(SNAPSHOT)
    assert on_disk is not None
    assert (on_disk.uri, on_disk.sha256 == published["manifest_sha256"]) == (published["source"], False)

    assert next_step(here) == ("half done", "CleanUp")
    assert planned(here) == [("CleanUp", [])]
    garbage = said(here, "gc", "--dry-run")
    assert [(file["path"], file["why"]) for file in garbage["work_files"]] == [
        (str(here.work / str(SNAPSHOT)), "published")
    ]
    assert done(here) == ["CleanUp"]
    assert len(here.publications(SNAPSHOT)) == 1
    assert next_step(here) == ("published", None)


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def deployment(files: SnapshotFiles, server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """One network."""
    return Deployment(in_directory(files.root), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})


def republish(files: SnapshotFiles, _work: Path) -> None:
    """Let upstream publish another version, one file of it with other rows."""
    files.delete_row("raw_alerts")


def touch(_files: SnapshotFiles, work: Path) -> None:
    """Let somebody write to a file, or seem to."""
    (work / "raw_clusters.parquet").touch()


def nothing(_files: SnapshotFiles, _work: Path) -> None:
    """Leave all as it is."""


#: Where a run was killed, and what happened after that.
STOPS: dict[str, tuple[str, Callable[[SnapshotFiles, Path], None]]] = {
    "before anything": ("", nothing),
    "before the manifest": ("DownloadManifest", nothing),
    "before the files": ("DownloadFile raw_alerts", nothing),
    "before a load": ("LoadTable raw_features", nothing),
    "before the audits": ("AuditSnapshot", nothing),
    "before the publication": ("PublishSnapshot", nothing),
    "before CleanUp": ("CleanUp", nothing),
    "republished before the publication": ("PublishSnapshot", republish),
    "republished before CleanUp": ("CleanUp", republish),
    "a file that was touched": ("PublishSnapshot", touch),
}


def stopped(deployment: Deployment, step: str) -> None:
    """Do what a run does until a step."""
    with pytest.raises(KilledError):
        ingest(deployment, SNAPSHOT, at(step, kill))


@pytest.mark.parametrize("stop", STOPS)
def test_a_plan_is_what_a_run_does(deployment: Deployment, files: SnapshotFiles, stop: str) -> None:
    """The same steps, whatever a run before left; and status names the first of them.

    A validation is planned with the download that it follows, and may turn out to be proven.
    """
    before, harm = STOPS[stop]
    if before:
        stopped(deployment, before)
    harm(files, deployment.work / str(SNAPSHOT))
    state, step = next_step(deployment)
    expected = [name for name, _ in planned(deployment)]
    assert state == ("half done" if deployment.work_files() else "missing")
    assert step is None or step.split()[0] == expected[0]
    found = done(deployment)
    assert set(found) == {name for name in expected if name in found or not name.startswith("Validate")}
    deployment.assert_readers_see(files)
    assert planned(deployment) == []


def test_what_another_host_loaded_starts_here_with_the_manifest(deployment: Deployment, tmp_path: Path) -> None:
    """Half done, for the ledger knows; and the plan knows by the manifest at the source which tables are loaded."""
    stopped(deployment, "LoadTable raw_clusters")
    elsewhere = Deployment(deployment.source, deployment.reader, tmp_path / "elsewhere", deployment.variables)
    assert next_step(elsewhere) == ("half done", "DownloadManifest")
    (loads,) = (tables for step, tables in planned(elsewhere) if step == "LoadTable")
    assert loads == ["raw_clusters", "raw_address_labels"]


def test_a_source_that_refuses_hides_no_day(deployment: Deployment) -> None:
    """Status goes on with what it knows, and gc leaves what it cannot tell about."""
    stopped(deployment, "CleanUp")
    deployment.variables["SOT_PATH"] = "/nowhere"
    assert next_step(deployment) == ("half done", "FindSnapshot")
    assert said(deployment, "gc", "--dry-run")["work_files"] == []


@pytest.fixture
def uncached() -> Iterator[None]:
    """Let this process read the settings that the test makes, and forget them after it."""
    for cached in (settings.get_settings, contexts.get_context):
        cached.cache_clear()
    yield
    for cached in (settings.get_settings, contexts.get_context):
        cached.cache_clear()


@pytest.mark.usefixtures("uncached")
def test_published_days_cost_five_queries_a_network(
    server_reader: ServerReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are; targets are asked of the one day that is half done."""
    networks, days = ("torus", "bitcoin", "ethereum"), 195
    files = [Bucket(tmp_path / "bucket").snapshot(network) for network in networks]
    deployment, context = in_process(
        tmp_path / "bucket", server_reader, tmp_path / "run", INGESTION_NETWORKS=",".join(networks)
    )
    ingest_in_process(context_of(deployment), files[0].snapshot)
    for name, value in deployment.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process, "configure_process", lambda _: None)
    asked: Counter[str] = Counter()
    query = ServerWarehouse.query

    def counted(self: ServerWarehouse, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        asked[self.database.removeprefix(server_reader.prefix)] += 1
        return query(self, statement, **parameters)

    monkeypatch.setattr(ServerWarehouse, "query", counted)
    last = date.fromisoformat(DATE) + timedelta(days=1)
    arguments = ["--date", last.isoformat(), "--days", str(days), "--json"]
    found = json.loads(CliRunner().invoke(status_command.command, arguments, catch_exceptions=False).stdout)
    assert Counter(day["state"] for day in found) == {"published": 1, "missing": 3 * days - 1}
    assert asked == {"torus": 5, "bitcoin": 6, "ethereum": 6}  # of those without tables once more which there are
    context.workspace(files[1].snapshot).keep_manifest(files[1].manifest_path.read_bytes(), "elsewhere")
    found = json.loads(CliRunner().invoke(status_command.command, arguments, catch_exceptions=False).stdout)
    assert [day["step"] for day in found if day["state"] == "half done"] == ["DownloadManifest"]
    assert asked["ethereum"] == 11  # whether tables are replicas is asked once a process
    assert asked["bitcoin"] <= 11 + 1 + 2 * len(TABLES)
