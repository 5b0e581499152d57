"""Records of steps reach the end of the run and the warehouse, and wait while it is dead."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from pipeline.errors import WarehouseError
from pipeline.graph import journal, spool
from pipeline.graph.context import Context
from pipeline.settings import load_settings
from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import step_records
from tests.support.clickhouse import free_ports
from tests.support.deployment import ServerReader, a_day

SNAPSHOT = a_day()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The warnings."""
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), level="WARNING", format="{message}")
    yield lines
    logger.remove(handler)


def context_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str]) -> Context:
    """Return what steps of a run with this warehouse share."""
    for name, value in {"SOT_PATH": str(tmp_path), "WORK_PATH": str(tmp_path / "work"), **environment}.items():
        monkeypatch.setenv(name, value)
    return Context(load_settings())


def keep(context: Context, step: str, snapshot: Snapshot = SNAPSHOT) -> None:
    """Record a failed step."""
    error = WarehouseError(f"{step} broke", hint="mend it")
    spool.record_step(context, spool.record_of(context, snapshot, (step, ""), "failed", time.monotonic(), error=error))


def test_records_wait_for_a_dead_warehouse(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server_reader: ServerReader,
    log: list[str],
) -> None:
    """One warning, files, and no question for a minute; then all are sent, in order, with the next that succeeds."""
    alive = dict(server_reader.environment)
    dead = context_of(monkeypatch, tmp_path, {**alive, "CLICKHOUSE_PORT": str(*free_ports(1))})
    keep(dead, "DownloadFile")
    keep(dead, "ValidateFile")
    assert len(log) == 1
    directory = tmp_path / "work" / "spool" / "torus"
    waiting = sorted(directory.iterdir())
    assert len(waiting) == 2
    assert "which wait in" in log[0]

    for path in waiting:
        os.utime(path, (0, 0))  # a minute later
    (directory / "0-0.json").write_text('{"another": "version"}')
    context = context_of(monkeypatch, tmp_path, alive)
    keep(context, "LoadTable")
    day = SNAPSHOT.processing_date
    found = step_records(context.warehouse("torus"), "torus", day, day, 195)
    assert [(each.step, each.error, each.hint) for each in found] == [
        (step, f"{step} broke", "mend it") for step in ("DownloadFile", "ValidateFile", "LoadTable")
    ]
    assert not (tmp_path / "work" / "spool").exists()
    assert len(log) == 1


def test_the_spool_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The oldest records make room."""
    monkeypatch.setattr(spool, "MOST", 3)
    dead = {"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(*free_ports(1))}
    context = context_of(monkeypatch, tmp_path, dead)
    for number in range(5):
        keep(context, f"Step{number}")
    kept = [path.read_text() for path in sorted((tmp_path / "work" / "spool" / "torus").iterdir())]
    assert ["Step2" in kept[0], "Step3" in kept[1], "Step4" in kept[2]] == [True] * 3


def test_what_cannot_be_stored_either_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: list[str]
) -> None:
    """Warehouse dead, disk unwritable: the step goes on, and the end of the run knows the cause."""
    (tmp_path / "work").write_text("no directory")
    dead = {"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(*free_ports(1))}
    context = context_of(monkeypatch, tmp_path, dead)
    with journal.open_journal() as kept, spool.sending(context, kept):
        keep(context, "LoadTable")
        assert [record.error for record in kept.records()] == ["LoadTable broke"]
    (warning,) = log
    assert warning.startswith("Could not record steps: ")


def test_a_journal_that_is_full_loses_no_record(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server_reader: ServerReader,
    log: list[str],
) -> None:
    """The step goes on, and the warehouse is told at once."""
    context = context_of(monkeypatch, tmp_path, dict(server_reader.environment))
    with journal.open_journal() as kept:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, kept.handle)
        os.close(full)
        keep(context, "LoadTable")
    day = SNAPSHOT.processing_date
    assert [each.step for each in step_records(context.warehouse("torus"), "torus", day, day, 195)] == ["LoadTable"]
    (warning,) = log
    assert "No space left" in warning


def test_a_run_sends_what_its_processes_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_reader: ServerReader
) -> None:
    """While the run is still at work, each record once, and the last ones when it ends."""
    context = context_of(monkeypatch, tmp_path, dict(server_reader.environment))

    def sent() -> list[str]:
        day = SNAPSHOT.processing_date
        return [each.step for each in step_records(context.warehouse("torus"), "torus", day, day, 195)]

    with journal.open_journal() as kept, spool.sending(context, kept):
        if (child := os.fork()) == 0:
            keep(context, "DownloadFile")
            os._exit(0)
        os.waitpid(child, 0)
        keep(context, "ValidateFile")
        deadline = time.monotonic() + 30
        while len(sent()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sent() == ["DownloadFile", "ValidateFile"]
        keep(context, "LoadTable")
    assert sent() == ["DownloadFile", "ValidateFile", "LoadTable"]
    assert context.warehouse("torus").query("SELECT count() FROM {database}.sot_steps") == [(3,)]  # none sent twice


def test_processes_write_into_one_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four processes at once, each 200 records of 2 kB: all arrive, none is torn."""
    context = context_of(monkeypatch, tmp_path, {"CLICKHOUSE_HOST": "127.0.0.1"})
    with journal.open_journal() as kept:
        children = []
        for _ in range(4):
            if (child := os.fork()) == 0:
                for number in range(200):
                    error = WarehouseError("x" * 2_000, hint="")
                    journal.append_record(
                        spool.record_of(context, SNAPSHOT, (f"Step{number}", ""), "failed", error=error)
                    )
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        records = kept.records()
    assert len(records) == 800
    assert {len(record.error) for record in records} == {2_000}
    assert not journal.is_open()
