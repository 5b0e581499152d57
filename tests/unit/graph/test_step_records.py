"""Records of steps reach the end of the run and the warehouse, and wait in the run's file while it is dead."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from pipeline.errors import WarehouseError
from pipeline.graph import step_records
from pipeline.graph.context import Context
from pipeline.graph.step_records import open_run
from pipeline.settings import load_settings
from pipeline.snapshot import Snapshot
from pipeline.warehouse import step_log
from tests.support.clickhouse import free_ports
from tests.support.deployment import EmbeddedReader, Reader, ServerReader, a_day

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


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Context:
    """A run whose warehouse does not answer."""
    address = {"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(*free_ports(1))}
    return context_of(monkeypatch, tmp_path, address)


def record(context: Context, step: str, snapshot: Snapshot = SNAPSHOT) -> None:
    """Record a failed step."""
    error = WarehouseError(f"{step} broke", hint="mend it")
    made = step_records.record_of(context, snapshot, (step, ""), "failed", time.monotonic(), error=error)
    step_records.record_step(context, made)


def forked(work: Callable[[], object]) -> None:
    """Do something in a process of its own, and wait for it."""
    if (child := os.fork()) == 0:
        work()
        os._exit(0)
    os.waitpid(child, 0)


def files(tmp_path: Path) -> list[Path]:
    """Return the files of runs."""
    return sorted((tmp_path / "work" / "runs").iterdir())


def sent(context: Context, network: str = "torus") -> list[str]:
    """Return the steps that the warehouse knows of, each as often as it has a row."""
    day = SNAPSHOT.processing_date
    found = [each.step for each in step_log.step_records(context.warehouse(network), network, day, day, 195)]
    if found:
        count = context.warehouse(network).query("SELECT toUInt32(count()) FROM {database}.sot_steps")
        assert count == [(len(found),)]
    return found


def test_records_wait_for_a_dead_warehouse(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reader: Reader, dead: Context, log: list[str]
) -> None:
    """One warning, a file, and no question for a minute; the next run sends all in order, and removes the file."""
    with open_run(dead) as run, run.sending():
        record(dead, "DownloadFile")
        record(dead, "ValidateFile")
    (warning,) = log
    (path,) = files(tmp_path)
    assert f"which wait in {path}: " in warning
    assert path.stem.endswith(dead.run_id)

    monkeypatch.delenv("CLICKHOUSE_HOST")
    alive = context_of(monkeypatch, tmp_path, dict(reader.environment))
    with open_run(alive) as run, run.sending():
        record(alive, "LoadTable")
        assert [each.step for each in run.records()] == ["LoadTable"]
    assert sent(alive) == ["DownloadFile", "ValidateFile", "LoadTable"]
    alive.close()
    assert files(tmp_path) == []
    assert len(log) == 1


def test_a_record_tells_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_reader: ServerReader
) -> None:
    """As the error did; outside of a run a record is sent at once, and no file is left."""
    context = context_of(monkeypatch, tmp_path, dict(server_reader.environment))
    record(context, "LoadTable")
    day = SNAPSHOT.processing_date
    (found,) = step_log.step_records(context.warehouse("torus"), "torus", day, day, 195)
    assert (found.error, found.hint, found.run_id) == ("LoadTable broke", "mend it", context.run_id)
    assert files(tmp_path) == []


def test_a_run_that_was_killed_is_sent_by_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_reader: ServerReader
) -> None:
    """What it sent before it was killed is sent no second time; a line that it did not finish is none."""
    context = context_of(monkeypatch, tmp_path, dict(server_reader.environment))

    def die() -> None:
        with open_run(context) as run:
            record(context, "DownloadFile")  # is sent at once: no thread sends
            run.is_sending = True
            record(context, "ValidateFile")
            os.write(run.files[0].handle, b'\n{"step": "Load')
            os.kill(os.getpid(), signal.SIGKILL)

    forked(die)
    assert sent(context) == ["DownloadFile"]
    assert len(files(tmp_path)) == 1
    with open_run(Context(context.settings)) as run, run.sending():
        pass
    assert sent(context) == ["DownloadFile", "ValidateFile"]
    assert files(tmp_path) == []


def test_a_killed_run_may_end_during_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_reader: ServerReader
) -> None:
    """A process of it holds its file when the next run begins; that one sends the records when it ends."""
    context = context_of(monkeypatch, tmp_path, dict(server_reader.environment))

    def die() -> None:
        with open_run(context) as run:
            run.is_sending = True
            record(context, "ValidateFile")
            os.kill(os.getpid(), signal.SIGKILL)

    forked(die)
    with files(tmp_path)[0].open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with open_run(Context(context.settings)) as run, run.sending():
            assert run.waiting == []
            held.close()
    assert sent(context) == ["ValidateFile"]
    assert files(tmp_path) == []


def test_a_run_at_work_keeps_its_file(dead: Context, tmp_path: Path) -> None:
    """Another run of this deployment neither sends its records nor removes them."""
    with open_run(dead) as run:
        run.is_sending = True
        record(dead, "LoadTable")

        def other() -> None:
            with open_run(Context(dead.settings)) as second:
                assert second.waiting == []
                assert len(second.paths) == 1
            os._exit(7)

        child = os.fork()
        if child == 0:
            other()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert [path.stem.rpartition("-")[2] for path in files(tmp_path)] == [dead.run_id]
        assert len(run.records()) == 1


def test_networks_wait_by_themselves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_reader: ServerReader
) -> None:
    """What the warehouse of one network does not take keeps no other's from being sent, and is sent alone later."""
    environment = dict(server_reader.environment)
    port = environment["CLICKHOUSE_PORT"]
    broken = context_of(
        monkeypatch,
        tmp_path,
        {**environment, "BITCOIN_CLICKHOUSE_PORT": str(*free_ports(1)), "TORUS_CLICKHOUSE_PORT": port},
    )
    bitcoin = Snapshot("bitcoin", SNAPSHOT.processing_date, SNAPSHOT.window_days)
    with open_run(broken) as run, run.sending():
        record(broken, "LoadTable")
        record(broken, "LoadTable", bitcoin)
    assert sent(broken) == ["LoadTable"]
    assert len(files(tmp_path)) == 1
    monkeypatch.setenv("BITCOIN_CLICKHOUSE_PORT", port)
    mended = Context(load_settings())
    with open_run(mended) as run, run.sending():
        pass
    assert (sent(mended), sent(mended, "bitcoin")) == (["LoadTable"], ["LoadTable"])
    assert files(tmp_path) == []


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead: Context) -> None:
    """The oldest runs make room."""
    monkeypatch.setattr(step_records, "MOST", 3)
    for number in range(6):
        record(Context(dead.settings, run_id=f"run{number}"), "LoadTable")
    assert [path.stem.rpartition("-")[2] for path in files(tmp_path)] == ["run2", "run3", "run4", "run5"]


def test_without_a_disk_the_cause_is_kept(dead: Context, tmp_path: Path, log: list[str]) -> None:
    """Warehouse dead, disk unwritable: steps go on, and the end of the run knows what forked ones told."""
    (tmp_path / "work").write_text("no directory")
    with open_run(dead) as run, run.sending():
        forked(lambda: record(dead, "DownloadFile"))
        record(dead, "LoadTable")
        assert [each.error for each in run.records()] == ["DownloadFile broke", "LoadTable broke"]
    opened, sending = log
    assert opened.startswith("Could not open the file for the records of steps: ")
    assert sending.startswith("Could not record steps, which wait in memory: ")


def test_a_full_disk_loses_no_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_reader: ServerReader, log: list[str]
) -> None:
    """Nor one that it cuts: what it does not take whole is kept in memory, for the end of the run and the warehouse."""
    context = context_of(monkeypatch, tmp_path, dict(server_reader.environment))

    def fill(size: int) -> None:
        """Let this process write no file of more than so many bytes."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with open_run(context) as run, run.sending():
        record(context, "DownloadManifest")
        record(context, "ValidateManifest")
        taken = os.fstat(run.files[0].handle).st_size

        def cut() -> None:
            fill(taken + 100)
            record(context, "DownloadFile")

        def none() -> None:
            fill(taken + 100)
            record(context, "ValidateFile")

        forked(cut)
        assert os.fstat(run.files[0].handle).st_size == taken + 100
        forked(none)
        record(context, "LoadTable")  # there is room again
        steps = sorted(each.step for each in run.records())
    assert steps == ["DownloadFile", "DownloadManifest", "LoadTable", "ValidateFile", "ValidateManifest"]
    assert sorted(sent(context)) == steps
    assert log == []


def test_a_run_sends_what_its_processes_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_reader: ServerReader
) -> None:
    """While the run is still at work, each record once, and the last ones when it ends."""
    context = context_of(monkeypatch, tmp_path, dict(server_reader.environment))
    with open_run(context) as run, run.sending():
        forked(lambda: record(context, "DownloadFile"))
        record(context, "ValidateFile")
        deadline = time.monotonic() + 30
        while len(sent(context)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sent(context) == ["DownloadFile", "ValidateFile"]
        record(context, "LoadTable")
    assert sent(context) == ["DownloadFile", "ValidateFile", "LoadTable"]
    assert files(tmp_path) == []


def test_embedded_clickhouse_is_told_by_each_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At once and by no second thread."""
    reader = EmbeddedReader(tmp_path / "warehouse")
    context = context_of(monkeypatch, tmp_path, dict(reader.environment))
    with open_run(context) as run, run.sending():
        record(context, "DownloadFile")
        assert sent(context) == ["DownloadFile"]
        assert not run.is_sending
    context.close()


def test_processes_write_into_one_file(dead: Context) -> None:
    """Four processes at once, each 200 records of 2 kB: all arrive, none is torn."""
    with open_run(dead) as run:
        children = []
        for _ in range(4):
            if (child := os.fork()) == 0:
                for number in range(200):
                    error = WarehouseError("x" * 2_000, hint="")
                    run.append(step_records.record_of(dead, SNAPSHOT, (f"Step{number}", ""), "failed", error=error))
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        records = run.records()
    assert len(records) == 800
    assert {len(each.error) for each in records} == {2_000}
    assert not step_records.is_open()
