"""The table of exit codes, row by row: what ``sot-ingest`` and ``luigi`` end with and say last, side by side."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from luigi.rpc import RemoteScheduler

from pipeline.exit_codes import MEANINGS
from pipeline.tasks import DownloadManifest
from tests.conftest import own_databases
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import HASTE, SECONDS, Deployment, EmbeddedReader, Result, ServerReader, in_directory
from tests.support.luigid import free_port, running_luigid
from tests.support.receiver import Receiver
from tests.support.snapshots import Bucket, SnapshotFiles

DAY, LABEL = "2025-08-01", "torus 2025-08-01"
COMMANDS = ("sot-ingest run", "luigi")


def command(name: str, *, day: str = DAY, network: str = "torus", remote: bool = False) -> list[str]:
    """Return a command for one snapshot; ``remote`` insists on luigid."""
    if name == "luigi":
        words = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--network", network]
        return [*words, "--processing-date", day, *([] if remote else ["--local-scheduler"])]
    scheduler = ["--network", network, "--scheduler", "luigid" if remote else "local"]
    if name == "sot-ingest backfill":
        return [*name.split(), "--from", day, "--to", day, *scheduler]
    return [*name.split(), "--date", day, *scheduler, *(["--yes"] if name == "sot-ingest rerun" else [])]


@dataclass
class Place:
    """Where the commands of a row run: a snapshot, and a deployment for each command."""

    files: SnapshotFiles
    directory: Path

    def deployment(self, name: str, **variables: str) -> Deployment:
        """Return the deployment of a command, with an embedded warehouse."""
        directory = self.directory / name.replace(" ", "-")
        reader = EmbeddedReader(directory / "warehouse")
        return Deployment(in_directory(self.files.root), reader, directory, variables)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A valid snapshot."""
    return Place(Bucket(tmp_path / "bucket").snapshot(), tmp_path)


def last(result: Result) -> dict[str, Any]:
    """Return the log's last event, which is the only one that says how the run ended."""
    ends = [event for event in result.log() if event["message"].startswith("Run ended")]
    assert len(ends) == 1, result.stderr
    assert result.log()[-1] == ends[0], result.stderr
    return ends[0]


def check(result: Result, code: int, **said: Any) -> None:
    """Compare the end of a command with a row of the table."""
    end = last(result)
    assert result.exit_code == code, result.stderr
    assert (end["message"], end["exit_code"]) == (f"Run ended: {MEANINGS[code]}", code)
    assert end["level"] == ("ERROR" if code else "INFO")
    assert isinstance(end["seconds"], float)
    expected = {"published": [], "failed": [], **said}
    assert {name: end.get(name) for name in expected} == expected, result.stderr
    assert "Traceback" not in result.stderr


NETWORK_DAY = {"networks": ["torus"], "date": DAY}
ANY = pytest.mark.parametrize("name", COMMANDS)
EVERY = pytest.mark.parametrize("name", [*COMMANDS, "sot-ingest rerun", "sot-ingest backfill"])


def about(name: str, day: str = DAY) -> dict[str, Any]:
    """Return what a run's last line says that it was about."""
    days = {"first": day, "last": day} if name == "sot-ingest backfill" else {"date": day}
    return {"networks": ["torus"], **days}


@EVERY
def test_0_done_and_nothing_to_do(name: str, place: Place) -> None:
    """The first run says what it published; one with nothing to do ends with the same line, and says nothing else."""
    deployment = place.deployment(name)
    check(deployment.command(*command(name)), 0, published=[LABEL], **about(name))
    again = deployment.command(*command(name))
    check(again, 0, published=[LABEL] if name == "sot-ingest rerun" else [], **about(name))
    assert name == "sot-ingest rerun" or len(again.log()) == 1


@EVERY
@pytest.mark.parametrize("variables", [{}, {"CLICKHOUSE_HOST": "db"}], ids=["command line", "configuration"])
def test_2_nothing_was_started(name: str, variables: dict[str, str], place: Place) -> None:
    """What is wrong is said as an event, too; nothing is made."""
    deployment = place.deployment(name, **variables)
    result = deployment.command(*command(name, network="torus" if variables else "trous"))
    check(result, 2)
    assert [event["level"] for event in result.log()] == ["ERROR", "ERROR"]
    assert result.log()[0]["hint"]
    assert list(deployment.directory.iterdir()) == []


def test_2_luigi_cannot_read_its_file(place: Place) -> None:
    """It reads it when it is imported, before a run can begin; as JSON where that is asked for."""
    file = place.directory / "luigi.cfg"
    file.write_text("default-scheduler-port = 8082\n")
    result = place.deployment("status", LUIGI_CONFIG_PATH=str(file)).command("sot-ingest", "status", "--json")
    assert result.exit_code == json.loads(result.stdout)["exit_code"] == 2
    (event,) = result.log()
    assert event["message"].startswith("luigi.cfg: File contains no section headers")
    assert event["hint"].startswith("correct it in the file of LUIGI_CONFIG_PATH")


def test_3_findings(place: Place) -> None:
    """What monitoring looks for is not what a wrong command line ends with."""
    deployment = place.deployment("sot-ingest check")
    stale = deployment.command("sot-ingest", "check", "--network", "torus")
    assert (stale.exit_code, stale.stderr) == (3, "")
    assert "nothing with a window of 195 days is published" in stale.stdout
    assert deployment.command("sot-ingest", "check", "--max-age", "soon").exit_code == 2


@contextmanager
def held(clickhouse: ClickHouseServer, place: Place, name: str) -> Iterator[tuple[Deployment, Any, Brake]]:
    """Yield a run that stands still in the middle of a load, with its deployment."""
    with (
        own_databases(clickhouse) as prefix,
        Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake,
    ):
        deployment = place.deployment(name, CLICKHOUSE_HTTP_PORT=str(brake.port))
        deployment.reader = ServerReader(clickhouse, prefix)
        run = deployment.start(*command(name))
        assert brake.held.wait(SECONDS)
        yield deployment, run, brake


@ANY
def test_10_another_run_is_at_work(name: str, place: Place, clickhouse: ClickHouseServer) -> None:
    """The second of two says so at once; the first goes on."""
    with held(clickhouse, place, name) as (deployment, run, brake):
        second = deployment.command(*command(name))
        brake.released.set()
        stdout, stderr = run.communicate(timeout=SECONDS)
    check(second, 10, **NETWORK_DAY)
    assert [event["level"] for event in second.log()] == ["WARNING", "ERROR"]
    assert last(second)["hint"]
    check(Result(run.returncode, stdout, stderr), 0, published=[LABEL], **NETWORK_DAY)


@EVERY
def test_20_no_snapshot(name: str, place: Place) -> None:
    """What is missing is named."""
    result = place.deployment(name).command(*command(name, day="2025-08-03"))
    check(result, 20, **about(name, "2025-08-03"))
    assert name == "sot-ingest rerun" or last(result)["missing"] == ["torus 2025-08-03"]
    assert len([event for event in result.log() if event["level"] == "ERROR"]) == 2


@ANY
def test_25_luigid_does_not_let_it_run(name: str, place: Place) -> None:
    """Of a task that luigid disabled: the last line's hint says what to do."""
    task = DownloadManifest(
        *(getattr(place.files.snapshot, each) for each in ("network", "processing_date", "window_days"))
    )
    with running_luigid(place.directory / "luigid") as port:
        remote: Any = RemoteScheduler(f"http://127.0.0.1:{port}/")
        policy = {"retry_count": 1, "disable_hard_timeout": 9_999, "disable_window": 3_600}
        about_it = {"worker": "w", "task_id": task.task_id, "family": task.task_family, "retry_policy_dict": policy}
        remote.add_task(status="PENDING", params={"network": "torus"}, **about_it)
        assert remote.get_work(worker="w", host="h")["task_id"] == task.task_id
        remote.add_task(status="FAILED", **about_it)
        result = with_luigid(place.deployment(name), port).command(*command(name, remote=True))
    check(result, 25, **NETWORK_DAY)
    assert "sot-ingest unblock" in last(result)["hint"]


def with_luigid(deployment: Deployment, port: int) -> Deployment:
    """Let a deployment's luigi.cfg name a luigid."""
    deployment.directory.mkdir(exist_ok=True)
    (deployment.directory / "luigi.cfg").write_text(f"[core]\ndefault-scheduler-port = {port}\n")
    return deployment


@EVERY
def test_30_a_step_failed(name: str, place: Place) -> None:
    """It is named; messages, metrics and pings are told before the last line."""
    place.files.corrupt("raw_alerts", 100)
    with Receiver().running() as receiver:
        deployment = place.deployment(name, METRICS_PATH=str(place.directory / "sot.prom"), **receiver.environment)
        result = deployment.command(*command(name))
        assert receiver.pings == ["/start", "/30"]
    check(result, 30, failed=[f"DownloadFile raw_alerts of {LABEL}"], **about(name))
    messages = [event["message"] for event in result.log()]
    assert messages[-2].startswith("Sent a message: ")
    assert list(place.directory.glob("sot-*-run.prom"))


@ANY
def test_35_nobody_can_tell(name: str, place: Place) -> None:
    """The work directory cannot be read: the step that asked is named."""
    deployment = place.deployment(name)
    deployment.directory.mkdir()
    (deployment.directory / "file").touch()
    deployment.variables["SOT_PATH"] = str(deployment.directory / "file")
    result = deployment.command(*command(name))
    check(result, 35, failed=[f"FindSnapshot of {LABEL}"], **NETWORK_DAY)


@EVERY
@pytest.mark.parametrize("variable", ["SOT_PATH", "WORK_PATH", "CLICKHOUSE_HOST"])
def test_35_what_does_not_answer_before_the_first_step(name: str, variable: str, place: Place) -> None:
    """The same whoever asks first: the run's own lock, what is to be forgotten, or a step."""
    deployment = place.deployment(name, **HASTE)
    deployment.directory.mkdir()
    (deployment.directory / "file").touch()
    if variable == "CLICKHOUSE_HOST":
        nobody = ClickHouseServer("127.0.0.1", free_port(), free_port(), user="ingest", password="")
        deployment.reader = ServerReader(nobody, "")
    else:
        deployment.variables[variable] = str(deployment.directory / "file")
    result = deployment.command(*command(name))
    if name == "sot-ingest backfill" and variable == "CLICKHOUSE_HOST":
        check(result, 35, cause=last(result)["cause"], **about(name))
    else:
        step = "FindSnapshot" if variable == "SOT_PATH" and name != "sot-ingest rerun" else "IngestSnapshot"
        check(result, 35, failed=[f"{step} of {LABEL}"], **about(name))


@pytest.mark.parametrize("name", [*COMMANDS, "sot-ingest backfill"])
def test_40_luigid_does_not_answer(name: str, place: Place) -> None:
    """One ERROR line with a hint, within seconds and without a warning; then the last line with the same cause."""
    deployment = with_luigid(place.deployment(name), free_port())
    result = deployment.command(*command(name, remote=True))
    check(result, 40, **about(name))
    error, end = result.log()
    assert error["level"] == "ERROR"
    assert error["message"] == end["cause"]
    assert error["hint"] == end["hint"]
    assert end["seconds"] < 5


@EVERY
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_130_and_143_signals(
    number: signal.Signals, code: int, name: str, place: Place, clickhouse: ClickHouseServer
) -> None:
    """The steps that were ended are named, and that a rerun goes on."""
    with held(clickhouse, place, name) as (_, run, _):
        os.kill(run.pid, number)
        stdout, stderr = run.communicate(timeout=SECONDS)
        result = Result(run.returncode, stdout, stderr)
    steps = last(result)["failed"]
    check(result, code, failed=steps, cause=f"ended by {number.name}", hint="a rerun goes on from here", **about(name))
    assert f"LoadTable raw_features of {LABEL}" in steps


@ANY
def test_the_last_line_as_text(name: str, place: Place) -> None:
    """LOG_FORMAT=text: the same facts; lists with commas, and ``none`` where there is nothing."""
    deployment = place.deployment(name, LOG_FORMAT="text", SOT_S3_BUKET="x")
    lines = deployment.command(*command(name)).stderr.splitlines()
    assert " WARNING SOT_S3_BUKET is no variable of sot-ingest (did you mean SOT_S3_BUCKET?)  hint=" in lines[0]
    assert f" INFO    Run ended: {MEANINGS[0]}  exit_code=0 " in lines[-1]
    assert f' networks=torus published="{LABEL}" failed=none seconds=' in lines[-1]


def test_every_row_of_the_table_has_a_test() -> None:
    """A new exit code gets one."""
    tested = "_".join(name for name in globals() if name.startswith("test_"))
    assert [code for code in MEANINGS if f"_{code}_" not in tested] == []
