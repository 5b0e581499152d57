"""SIGTERM and SIGINT: work stops, children too, and the rerun goes on from there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from luigi.scheduler import Scheduler

from pipeline.graph import interrupts
from pipeline.runs import worker
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import SECONDS, Deployment, Result, ServerReader, in_bucket, in_directory, run_of
from tests.support.s3 import Bucket as S3Bucket
from tests.support.snapshots import Bucket, SnapshotFiles, upload

STOP_SECONDS = 20  #: "within seconds", on a machine that others share


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def load_brake(clickhouse: ClickHouseServer) -> Iterator[Brake]:
    """Holds the rows of a load in the middle of the file."""
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        yield brake


def commands(files: SnapshotFiles) -> dict[str, list[str]]:
    """Return both commands for one snapshot."""
    day = files.snapshot.processing_date.isoformat()
    ours = run_of(files.snapshot)
    luigis = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--network", files.snapshot.network]
    return {"sot-ingest": ours, "luigi": [*luigis, "--processing-date", day, "--local-scheduler"]}


def interrupted(deployment: Deployment, brake: Brake, number: signal.Signals, command: list[str]) -> Result:
    """Start a command, send it a signal while the brake holds it, and return how it ended; no child is left."""
    run = deployment.start(*command)
    held = brake.held.wait(SECONDS)
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, number)
    stdout, stderr = run.communicate(timeout=STOP_SECONDS)
    assert held, stderr
    _, alive = psutil.wait_procs(children, timeout=STOP_SECONDS)
    assert alive == []
    return Result(run.wait(), stdout, stderr)


@contextmanager
def download_brake(files: SnapshotFiles, bucket: S3Bucket, limit: int) -> Iterator[Brake]:
    """Upload a snapshot, and hold each download that has come to this many bytes."""
    upload(files.root, bucket.client, bucket.name)
    address = urlsplit(bucket.endpoint)
    with Brake((str(address.hostname), int(address.port or 0)), limit=limit, upload=False).running() as brake:
        yield brake


def downloaded(deployment: Deployment) -> int:
    """Return how many files are proven to be on disk; a run may be stopped between the proof and the event."""
    return len(list(deployment.work.rglob("download-raw_*.json")))


@pytest.mark.parametrize(
    ("name", "workers", "number", "exit_code"),
    [
        ("sot-ingest", "1", signal.SIGTERM, 143),
        ("sot-ingest", "2", signal.SIGTERM, 143),
        ("sot-ingest", "2", signal.SIGINT, 130),
        ("luigi", "1", signal.SIGINT, 130),
        ("luigi", "2", signal.SIGTERM, 143),
    ],
)
def test_a_run_stopped_in_the_middle_of_a_load_is_resumed(
    files: SnapshotFiles,
    server_reader: ServerReader,
    load_brake: Brake,
    tmp_path: Path,
    name: str,
    workers: str,
    number: signal.Signals,
    exit_code: int,
) -> None:
    """It ends with the signal's code and no traceback, leaves no INSERT behind, says so in the ledger; the rerun
    publishes without a second download of what was there.
    """
    deployment = Deployment(in_directory(files.root), server_reader, tmp_path / "run")
    deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(load_brake.port)
    command = [*commands(files)[name], "--workers", workers]
    result = interrupted(deployment, load_brake, number, command)
    assert result.exit_code == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    assert number.name in result.log()[-1]["message"]
    running = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO%raw_%' AND current_database != ''"
    assert deployment.query(files.snapshot.network, running) == [(0,)]
    states = {load["state"] for load in deployment.ledger(files.snapshot)}
    assert "failed" in states
    assert "started" not in states

    whole = downloaded(deployment)
    load_brake.released.set()
    rerun = deployment.command(*command)
    assert rerun.exit_code == 0, rerun.stderr
    assert len(rerun.events("Downloaded file")) == 4 - whole
    assert len(deployment.publications(files.snapshot)) == 1
    deployment.assert_readers_see(files)


def test_a_run_stopped_in_the_middle_of_a_download_is_resumed(
    files: SnapshotFiles, server_reader: ServerReader, bucket: S3Bucket, tmp_path: Path
) -> None:
    """Nothing half downloaded is left, and what was whole is not fetched again."""
    with download_brake(files, bucket, limit=15_000) as brake:
        deployment = Deployment(
            in_bucket(bucket.name, f"http://127.0.0.1:{brake.port}"), server_reader, tmp_path / "run"
        )
        result = interrupted(deployment, brake, signal.SIGTERM, [*run_of(files.snapshot), "--workers", "2"])
        assert result.exit_code == 143, result.stderr
        assert not list(deployment.work.rglob("*.part"))
        whole = downloaded(deployment)
        brake.released.set()
        rerun = deployment.run(files.snapshot)
        assert rerun.exit_code == 0, rerun.stderr
        assert len(rerun.events("Downloaded file")) == 4 - whole
    deployment.assert_readers_see(files)


#: A signal that comes while the process forks: the operating system has made the child, luigi does not know it yet.
_STOPPED_IN_ITS_THIRD_FORK = """
import os, signal, sys
from pipeline.cli import main
forks = []
def forked():
    forks.append(1)
    if len(forks) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
        print("the callback went on to its end", flush=True)  # a later fork would write it again
os.register_at_fork(after_in_parent=forked)
main()
"""


def test_a_step_that_is_being_started_ends_too(
    files: SnapshotFiles, server_reader: ServerReader, bucket: S3Bucket, tmp_path: Path
) -> None:
    """The third step of a run is the first download; nobody else would end it while the source stands still.

    Each of the four files is longer than what the brake lets through, META.json is not. Small steps are forked, too.
    """
    with download_brake(files, bucket, limit=5_000) as brake:
        deployment = Deployment(
            in_bucket(bucket.name, f"http://127.0.0.1:{brake.port}"), server_reader, tmp_path / "run"
        )
        deployment.directory.mkdir()
        (deployment.directory / "luigi.cfg").write_text("[worker]\nforce_multiprocessing = true\n")
        command = [sys.executable, "-c", _STOPPED_IN_ITS_THIRD_FORK, *run_of(files.snapshot)[1:], "--workers", "2"]
        run = deployment.start(*command)
        stdout, stderr = run.communicate(timeout=STOP_SECONDS)  # until each process that could write has ended
        assert run.returncode == 143, stderr
        assert stdout == "the callback went on to its end\n"
        assert downloaded(deployment) == 0
        assert not list(deployment.work.rglob("*.part"))


def exit_code_of(act: Callable[[], None]) -> int | None:
    """Return how a forked worker ends that takes our signals and does this."""

    def begin() -> None:
        signal.signal(signal.SIGTERM, interrupts._receive)
        signal.signal(signal.SIGALRM, interrupts._deliver)
        sys.unraisablehook = interrupts._raise_again
        act()

    step = multiprocessing.get_context("fork").Process(target=begin)
    step.start()
    step.join(SECONDS)
    return step.exitcode


def test_a_worker_between_two_steps_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """In luigi's own code there is nothing to clear up, and nobody who would catch what is raised."""
    assert exit_code_of(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert capfd.readouterr().err == ""


def test_a_signal_that_comes_in_a_finalizer_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    """Python drops what is raised there; the work that it came into ends all the same."""

    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def be_stopped() -> None:
        with interrupts.work():
            try:
                Finalized()
                time.sleep(SECONDS)
            except interrupts.Interrupted as interrupt:
                interrupts.end_worker(interrupt)

    assert exit_code_of(be_stopped) == 143
    assert capfd.readouterr().err == ""


def test_a_step_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was told to end waits for its steps, of which luigi may not know one yet, but not without a limit."""
    monkeypatch.setattr(worker, "CLEARING_SECONDS", 0.1)
    forking = multiprocessing.get_context("fork")
    is_deaf = forking.Event()

    def be_deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        is_deaf.set()
        time.sleep(SECONDS)

    def end() -> None:
        step = forking.Process(target=be_deaf)
        step.start()
        is_deaf.wait(SECONDS)
        with suppress(KeyboardInterrupt), worker.IngestWorker(scheduler=Scheduler(), worker_processes=2):
            raise KeyboardInterrupt
        sys.exit(psutil.pid_exists(step.pid or 0))

    assert exit_code_of(end) == 0
