"""What luigid remembers of a run that was killed keeps no run waiting for ever, and what it waits for is logged."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from luigi.rpc import RemoteScheduler

from pipeline import tasks
from pipeline.graph import worker_id
from pipeline.graph.base import TableTask
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import SECONDS, Deployment, Result, ServerReader, a_day, in_directory, run_of
from tests.support.luigid import running_luigid
from tests.support.snapshots import Bucket, SnapshotFiles

DAY = a_day()
WITH_LUIGID = [*run_of(DAY)[:-2], "--scheduler", "luigid"]
LUIGI = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--network", "torus", "--workers", "2"]
LUIGI += ["--processing-date", str(DAY.processing_date)]
COMMANDS = pytest.mark.parametrize("command", [WITH_LUIGID, LUIGI], ids=["sot-ingest", "luigi"])


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a luigid."""
    with running_luigid(tmp_path / "luigid") as port:
        yield port


@pytest.fixture
def deployment(files: SnapshotFiles, server_reader: ServerReader, tmp_path: Path, port: int) -> Deployment:
    """A deployment whose luigi.cfg names the luigid."""
    made = Deployment(in_directory(files.root), server_reader, tmp_path / "run")
    made.directory.mkdir()
    (made.directory / "luigi.cfg").write_text(f"[core]\ndefault-scheduler-port = {port}\n")
    return made


def luigid(port: int) -> Any:
    """Return luigid's API."""
    return RemoteScheduler(f"http://127.0.0.1:{port}/")


def step(family: type[TableTask]) -> dict[str, Any]:
    """Return what luigid is told of a step about the features."""
    task = family(**vars(DAY), table="raw_features")
    parameters = {"network": DAY.network, "processing_date": str(DAY.processing_date), "table": "raw_features"}
    return {"task_id": task.task_id, "family": task.task_family, "params": parameters}


def worker_on(host: str, pid: int) -> str:
    """Return an id as luigi gives it to a worker."""
    return f"Worker(salt=0123456789, workers=2, host={host}, username=someone, pid={pid})"


def waiting(result: Result) -> list[str]:
    """Return what a run logged that it waits for."""
    return [event["message"] for event in result.log() if event["message"].startswith(("Waiting", "Gave up"))]


def validated(deployment: Deployment, clickhouse: ClickHouseServer) -> None:
    """Let the four files be validated, in processes of their own, and none be loaded."""
    config = deployment.directory / "luigi.cfg"
    before = config.read_text("utf-8")
    config.write_text(f"{before}[worker]\nforce_multiprocessing = true\n", "utf-8")
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
        deployment.killed("Validated checksum", 4, *run_of(DAY), "--workers", "8")
    del deployment.variables["CLICKHOUSE_HTTP_PORT"]
    config.write_text(before, "utf-8")


@COMMANDS
def test_a_proven_step_that_luigid_has_as_running_on_a_dead_worker(
    command: list[str], deployment: Deployment, clickhouse: ClickHouseServer, port: int, files: SnapshotFiles
) -> None:
    """Its successor is run at once: what its target says counts, not what luigid remembers."""
    validated(deployment, clickhouse)
    luigid(port).add_task(worker="dead-worker", status="RUNNING", **step(tasks.ValidateChecksum))
    result = deployment.command(*command)
    assert result.exit_code == 0, result.stderr
    assert waiting(result) == []
    assert len(deployment.publications(DAY)) == 1
    deployment.assert_readers_see(files)


@COMMANDS
def test_a_step_on_a_dead_process_of_this_host(
    command: list[str], deployment: Deployment, port: int, files: SnapshotFiles
) -> None:
    """It is run at once: its process is gone, whatever luigid waits for."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    dead = worker_on(socket.gethostname(), pid)
    for family in (tasks.DownloadFile, tasks.LoadTable):
        luigid(port).add_task(worker=dead, status="RUNNING", **step(family))
    result = deployment.command(*command)
    assert result.exit_code == 0, result.stderr
    assert waiting(result) == []
    deployment.assert_readers_see(files)


@COMMANDS
def test_a_step_of_a_run_whose_container_is_gone(
    command: list[str], deployment: Deployment, port: int, files: SnapshotFiles
) -> None:
    """Host name and pid are those of a living process, which is another: the lock in the work directory decides."""
    deployment.work.mkdir()
    dead = re.sub("(pid|namespace|started)=[^,]+", r"\1=1", worker_id.new_id(deployment.work))
    luigid(port).add_task(worker=dead, status="RUNNING", **step(tasks.LoadTable))
    result = deployment.command(*command)
    assert result.exit_code == 0, result.stderr
    assert waiting(result) == []
    deployment.assert_readers_see(files)


def test_a_dead_process_holds_no_resource(deployment: Deployment, port: int, files: SnapshotFiles) -> None:
    """What it was running for other days is ended too: it takes up the places for loads."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    dead = worker_on(socket.gethostname(), pid)
    begun: list[str] = []
    for task_id in ("LoadTable_1", "LoadTable_2"):
        about = {"task_id": task_id, "family": "LoadTable", "params": {}, "resources": {"loads": 1}}
        luigid(port).add_task(worker=dead, status="PENDING", **about)
        luigid(port).get_work(worker=dead, host="here", current_tasks=begun)
        begun.append(task_id)
    assert len(luigid(port).task_list("RUNNING", "")) == 2
    result = deployment.command(*WITH_LUIGID)
    assert result.exit_code == 0, result.stderr
    assert waiting(result) == []
    deployment.assert_readers_see(files)


@pytest.mark.slow
@COMMANDS
def test_a_step_on_a_worker_of_which_nothing_is_known(
    command: list[str], deployment: Deployment, port: int, files: SnapshotFiles
) -> None:
    """The run says what it waits for, until luigid has noticed that the worker is gone."""
    luigid(port).add_task(worker="dead-worker", status="RUNNING", **step(tasks.LoadTable))
    result = deployment.command(*command)
    assert result.exit_code == 0, result.stderr
    (event,) = [event for event in result.log() if event["message"].startswith("Waiting")]
    assert (event["worker"], event["seconds"]) == ("dead-worker", 40)
    assert "LoadTable" in event["task"]
    deployment.assert_readers_see(files)


@contextmanager
def living(port: int, worker: str) -> Iterator[None]:
    """Let luigid hear of a worker for as long as the block runs."""
    stop = threading.Event()

    def ping() -> None:
        while not stop.wait(1):
            luigid(port).ping(worker=worker)

    thread = threading.Thread(target=ping)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.slow
@COMMANDS
def test_a_step_on_a_worker_that_lives(command: list[str], deployment: Deployment, port: int) -> None:
    """The run gives up, says so, and exits 10; the next one finds neither its lock nor its claim."""
    luigid(port).add_task(worker="other", status="RUNNING", **step(tasks.LoadTable))
    with living(port, "other"):
        result = deployment.command(*command)
    assert result.exit_code == 10, result.stderr
    assert [message.split()[0] for message in waiting(result)] == ["Waiting", "Gave"]
    assert deployment.run(DAY).exit_code == 0


@COMMANDS
def test_what_luigid_forbids(command: list[str], deployment: Deployment, port: int, files: SnapshotFiles) -> None:
    """A pause and a disabled step end a run with 25 at once; after that luigid lets it run."""
    luigid(port).pause()
    assert deployment.command(*command).exit_code == 25
    luigid(port).unpause()
    about = step(tasks.DownloadFile) | {"retry_policy_dict": {"retry_count": 1, "disable_window": 3_600}}
    luigid(port).add_task(worker="w", status="RUNNING", **about)
    luigid(port).add_task(worker="w", status="FAILED", **about)
    result = deployment.command(*command)
    assert result.exit_code == 25, result.stderr
    assert waiting(result) == []
    assert deployment.command("sot-ingest", "unblock").exit_code == 0
    assert deployment.command(*command).exit_code == 0
    deployment.assert_readers_see(files)


@COMMANDS
def test_the_same_command_at_once_after_a_kill(
    command: list[str], deployment: Deployment, clickhouse: ClickHouseServer, files: SnapshotFiles
) -> None:
    """Its processes are gone, or on their way: the rerun waits for no timeout of luigid's."""
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
        for number, exit_code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
            run = deployment.start(*command)
            assert brake.held.wait(SECONDS)
            brake.held.clear()
            os.kill(run.pid, number)
            assert run.wait(SECONDS) == exit_code
        brake.released.set()
        result = deployment.command(*command)
    assert result.exit_code == 0, result.stderr
    assert [message for message in waiting(result) if "luigid" in message] == []
    assert len(deployment.publications(DAY)) == 1
    deployment.assert_readers_see(files)
