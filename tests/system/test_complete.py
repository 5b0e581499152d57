"""complete() is a predicate: it writes nothing, logs nothing, and waits for nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import luigi
import pytest
from loguru import logger

from pipeline import tasks
from pipeline.graph import steps
from pipeline.graph.context import Context, get_context
from pipeline.settings import get_settings
from pipeline.tables import TABLES
from pipeline.warehouse.server import ServerWarehouse
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import ALONE, Deployment, ServerReader, a_day, in_directory
from tests.support.inprocess import ingest
from tests.support.snapshots import Bucket, SnapshotFiles
from tests.support.sot import Sot

DAY = a_day()


@contextmanager
def in_this_process(deployment: Deployment) -> Iterator[Context]:
    """Yield the context of tasks that are made in this process."""
    with pytest.MonkeyPatch.context() as patches:
        for name, value in (deployment.environment | {"INGESTION_NETWORKS": "torus"}).items():
            patches.setenv(name, value)
        get_settings.cache_clear()
        get_context.cache_clear()
        yield get_context()
    get_settings.cache_clear()
    get_context.cache_clear()


@pytest.fixture
def context(server_reader: ServerReader, tmp_path: Path) -> Iterator[Context]:
    """A directory is the source."""
    Bucket(tmp_path / "bucket").snapshot()
    with in_this_process(Deployment(in_directory(tmp_path / "bucket"), server_reader, tmp_path / "run")) as context:
        yield context


@pytest.fixture
def sot_context(
    clickhouse: ClickHouseServer, database_prefix: str, samples: Path, server_reader: ServerReader, tmp_path: Path
) -> Iterator[Context]:
    """The SOT ClickHouse is the source."""
    sot = Sot(clickhouse, f"{database_prefix}sot")
    sot.fill(SnapshotFiles(samples, DAY))
    variables = sot.variables(SOT_SETTLE_SECONDS="0.2")
    with in_this_process(Deployment(variables, server_reader, tmp_path / "run")) as context:
        yield context


def graph(task: luigi.Task) -> list[luigi.Task]:
    """Return a task and all that it needs."""
    found = {task.task_id: task}
    for needed in task.deps():
        found |= {each.task_id: each for each in graph(needed)}
    return list(found.values())


def ask(context: Context, monkeypatch: pytest.MonkeyPatch, *, times: int = 3) -> set[str]:
    """Ask all tasks of a day so often; return the families of those that are complete."""
    asked = graph(tasks.IngestDaily(processing_date=DAY.processing_date, window_days=195, networks=("torus",)))
    asked.append(
        tasks.IngestRange(first=DAY.processing_date, last=DAY.processing_date, window_days=195, networks=("torus",))
    )
    assert len(asked) == 8 + 4 * len(TABLES) + 1 + (1 + len(TABLES) if context.sot else 0)
    root = context.settings.work_path.parent
    logged: list[object] = []

    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in root.rglob("*")}

    def forbidden(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("complete() writes, or waits")

    before, sink = files(), logger.add(logged.append, level="TRACE")
    try:
        with monkeypatch.context() as patches:
            patches.setattr(ServerWarehouse, "execute", forbidden)
            patches.setattr(ServerWarehouse, "insert_parquet", forbidden)
            patches.setattr(time, "sleep", forbidden)
            if context.sot:
                patches.setattr(context.sot, "_sleep", forbidden)
            answers = [{task.task_id: task.complete() for task in asked} for _ in range(times)]
    finally:
        logger.remove(sink)
    assert files() == before
    assert logged == []
    assert all(answer == answers[0] for answer in answers)
    return {task.task_family for task in asked if answers[0][task.task_id]}


def test_complete_has_no_effect(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before the first step, nor half way, nor when the snapshot is gone, nor when all is done."""
    assert ask(context, monkeypatch) == {"FindSnapshot"}
    steps.download_manifest(context, DAY)
    steps.validate_manifest(context, DAY)
    half_way = {"FindSnapshot", "DownloadManifest", "ValidateManifest"}
    assert ask(context, monkeypatch, times=100) == half_way
    for table in TABLES:
        steps.download_file(context, DAY, table, lambda *_: None)
    assert ask(context, monkeypatch) == half_way | {"DownloadFile"}
    assert context.settings.sot_path is not None
    manifest = context.settings.sot_path / DAY.manifest_key
    manifest.rename(manifest.with_name("away"))
    assert ask(context, monkeypatch) == {"DownloadManifest", "ValidateManifest", "DownloadFile"}  # of this run
    manifest.with_name("away").rename(manifest)
    ingest(context, DAY)
    assert {"IngestDaily", "IngestRange", "IngestSnapshot", "CleanUp"} <= ask(context, monkeypatch)


def test_complete_has_no_effect_on_an_export(sot_context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that no run has seen are not taken for settled, nor noted as seen; then each step counts as it is done."""
    context = sot_context
    assert context.sot is not None
    assert ask(context, monkeypatch) == set()
    assert context.sot.wait_until_ready(DAY)
    assert ask(context, monkeypatch) == {"FindSnapshot"}
    for table in TABLES:
        steps.export_table(context, DAY, table, lambda *_: None)
    assert ask(context, monkeypatch, times=20) == {"FindSnapshot", "ExportTable"}
    steps.write_manifest(context, DAY, lambda *_: None)
    steps.download_manifest(context, DAY)
    assert ask(context, monkeypatch) == {"FindSnapshot", "ExportTable", "WriteManifest", "DownloadManifest"}
    ingest(context, DAY)
    assert {"IngestDaily", "IngestRange", "IngestSnapshot", "CleanUp"} <= ask(context, monkeypatch)


@pytest.mark.parametrize("command", ["run", "run --wait 1s", "luigi"])
def test_a_run_says_once_that_a_snapshot_is_missing(command: str, server_reader: ServerReader, tmp_path: Path) -> None:
    """In one ERROR line with a hint, and in one record; the other snapshot of the day is ingested."""
    before = a_day("2025-07-31")
    bucket = Bucket(tmp_path / "bucket")
    bucket.snapshot("bitcoin")
    bucket.snapshot("torus", before.processing_date)
    deployment = Deployment(in_directory(tmp_path / "bucket"), server_reader, tmp_path / "run")
    assert deployment.run(before).exit_code == 0  # makes the table of steps
    day, networks = str(DAY.processing_date), ("torus", "bitcoin")
    daily = ["luigi", "--module", "pipeline.tasks", "IngestDaily", "--processing-date", day, "--local-scheduler"]
    ours = ["sot-ingest", *command.split(), "--date", day, *ALONE]
    for network in networks:
        ours += ["--network", network]
    result = deployment.command(*([*daily, "--networks", json.dumps(networks)] if command == "luigi" else ours))
    assert result.exit_code == 20, result.stderr
    (error,) = result.errors()
    assert (error["network"], error["step"]) == ("torus", "FindSnapshot")
    assert error["hint"]
    missing = "SELECT step FROM {db}.sot_steps WHERE state = 'missing'"
    assert deployment.records("torus", missing) == [{"step": "FindSnapshot"}]
