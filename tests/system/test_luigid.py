"""The real luigid, two workers, three networks; and the ``luigi`` command's exit codes."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from luigi.rpc import RemoteScheduler

from pipeline.graph import luigi_settings
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import (
    ALONE,
    HASTE,
    SECONDS,
    Deployment,
    EmbeddedReader,
    ServerReader,
    a_day,
    in_bucket,
    in_directory,
)
from tests.support.impostor import IMPOSTORS, answering
from tests.support.luigid import free_port, running_luigid
from tests.support.snapshots import Bucket, SnapshotFiles
from tests.support.zygote import Command

ROOT = Path(__file__).parents[2]
NETWORKS = ("ethereum", "bitcoin", "torus")
LOADS = int(luigi_settings.LUIGI_SETTINGS["resources"]["loads"])  #: at a time


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[int]:
    """The port of a luigid with the settings of our luigi.cfg."""
    with running_luigid(tmp_path / "luigid") as port:
        yield port


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when it is so; fail after a while."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def tasks(port: int, status: str) -> list[str]:
    """Return the families of luigid's tasks of a status."""
    data = urllib.parse.quote(json.dumps({"status": status, "upstream_status": ""}))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/task_list?data={data}", timeout=10) as answer:
        response: dict[str, dict[str, str]] = json.load(answer)["response"]
    return sorted(task["name"] for task in response.values())


@pytest.fixture
def deployment(server_reader: ServerReader, samples: Path, tmp_path: Path) -> Deployment:
    """The samples, and a ClickHouse server."""
    return Deployment(in_directory(samples), server_reader, tmp_path / "run")


def with_luigid(deployment: Deployment, port: int, worker: str = "") -> Deployment:
    """Let a deployment's luigi.cfg name a luigid, and say something about workers."""
    deployment.directory.mkdir(exist_ok=True)
    text = f"[core]\ndefault-scheduler-port = {port}\n[worker]\n{worker}\n"
    (deployment.directory / "luigi.cfg").write_text(text, "utf-8")
    return deployment


def test_luigid_runs_three_networks_with_two_workers(deployment: Deployment, samples: Path, luigid: int) -> None:
    """Every task is done once, as its metrics say; each network is published once; a second run does nothing."""
    with_luigid(deployment, luigid)
    command = ("sot-ingest", "run", "--date", "2025-08-01", "--workers", "2")
    result = deployment.command(*command)
    assert result.exit_code == 0, result.stderr
    done = tasks(luigid, "DONE")
    steps = {"DownloadManifest": 3, "DownloadFile": 12, "LoadTable": 12, "AuditSnapshot": 3, "CleanUp": 3}
    assert {name: done.count(name) for name in steps} == steps
    assert tasks(luigid, "FAILED") == []
    with urllib.request.urlopen(f"http://127.0.0.1:{luigid}/metrics", timeout=SECONDS) as answer:
        metrics = answer.read().decode()
    assert 'luigi_task_done_total{family="LoadTable",network="torus"} 4.0' in metrics
    for network in NETWORKS:
        assert len(deployment.publications(a_day(network=network))) == 1
        deployment.assert_readers_see(SnapshotFiles(samples, a_day(network=network)))
    again = deployment.command(*command)
    assert again.exit_code == 0
    assert [event for event in again.log() if "step" in event] == []


def test_a_failed_run_can_be_repeated_at_once(deployment: Deployment, luigid: int, tmp_path: Path) -> None:
    """luigid remembers the failure, and refuses neither the rerun nor its result."""
    files = Bucket(tmp_path / "bucket").snapshot()
    good = files.path("raw_alerts").read_bytes()
    files.corrupt("raw_alerts", 100)
    with_luigid(deployment, luigid)
    deployment.source = in_directory(files.root)
    command = ("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus")
    assert deployment.command(*command).exit_code == 30
    assert tasks(luigid, "FAILED") == ["DownloadFile"]
    files.overwrite("raw_alerts", good, digest=False)
    repeated = deployment.command(*command)
    assert repeated.exit_code == 0, repeated.stderr
    deployment.assert_readers_see(files)


def test_luigid_is_asked_if_it_answers(deployment: Deployment, samples: Path) -> None:
    """Without one the run does its work and says so in one line; one that wants luigid and no other ends with 40, at
    once, where luigi itself would try for minutes.
    """
    with_luigid(deployment, free_port())
    refused = deployment.command("sot-ingest", "run", "--date", "2025-08-01", "--scheduler", "luigid")
    assert refused.exit_code == 40
    event, _ = refused.log()
    assert "luigid" in event["message"]
    assert "--scheduler local" in event["hint"]
    result = deployment.command("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus")
    assert result.exit_code == 0, result.stderr
    (warning,) = [event for event in result.log() if event["level"] == "WARNING" and "step" not in event]
    assert "Running without luigid's page" in warning["message"]
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))


@pytest.mark.parametrize(
    "name",
    [
        "a login page",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("bad gateway", "another service", "a redirect")),
    ],
)
def test_what_is_not_luigid_is_done_without(name: str, deployment: Deployment, samples: Path) -> None:
    """As where nothing answers: a warning, and the day is ingested; a run that wants luigid ends with 40 and says what
    answered, of both commands.
    """
    luigis = ("luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--network", "torus")
    with answering(name) as port:
        with_luigid(deployment, port)
        for command in (
            ("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus", "--scheduler", "luigid"),
            (*luigis, "--processing-date", "2025-08-01"),
        ):
            refused = deployment.command(*command)
            assert refused.exit_code == 40
            (error, *_) = [event for event in refused.log() if event["level"] == "ERROR"]
            assert IMPOSTORS[name][3] in error["message"]
            assert f"127.0.0.1:{port}" in error["message"] or f"localhost:{port}" in error["message"]
            assert "--local-scheduler" in error["hint"]
            assert "Traceback" not in refused.stderr
        result = deployment.command("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus")
    assert result.exit_code == 0, result.stderr
    (warning,) = [event for event in result.log() if event["level"] == "WARNING" and "step" not in event]
    assert IMPOSTORS[name][3] in warning["message"]
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["auto", "luigid"])
def test_something_else_takes_luigids_place_in_the_middle_of_a_run(
    scheduler: str, deployment: Deployment, clickhouse: ClickHouseServer, samples: Path, tmp_path: Path
) -> None:
    """The run goes on without it, or ends with 40 and an error that says what answers there."""
    port, name = free_port(), "a login page"
    with_luigid(deployment, port)
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
        with running_luigid(tmp_path / "luigid", port):
            options = ("--network", "torus", "--scheduler", scheduler)
            run = deployment.start("sot-ingest", "run", "--date", "2025-08-01", *options)
            assert brake.held.wait(SECONDS)
        with answering(name, port):
            brake.released.set()
            stdout, stderr = run.communicate(timeout=SECONDS)
    assert run.returncode == (0 if scheduler == "auto" else 40), stdout + stderr
    assert "Traceback" not in stderr
    said = [event for event in map(json.loads, stderr.splitlines()) if "Please log in" in event["message"]]
    assert said[-1]["level"] == ("WARNING" if scheduler == "auto" else "ERROR")
    if scheduler == "auto":
        assert len(deployment.publications(a_day())) == 1
        deployment.assert_readers_see(SnapshotFiles(samples, a_day()))


def test_runs_take_turns(deployment: Deployment, luigid: int, clickhouse: ClickHouseServer) -> None:
    """Two runs at once that ask one luigid: both do all their work, and no three loads are in work at the same time."""

    def loads() -> list[dict[str, Any]]:
        return [load for network in ("torus", "bitcoin") for load in deployment.ledger(a_day(network=network))]

    with_luigid(deployment, luigid, "force_multiprocessing = true")
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
        runs = [
            deployment.start("sot-ingest", "run", "--date", "2025-08-01", "--network", network)
            for network in ("torus", "bitcoin")
        ]
        assert brake.held.wait(SECONDS)
        wait_until(lambda: tasks(luigid, "DONE").count("ValidateChecksum") > LOADS)  # one more could be loaded
        wait_until(lambda: len(loads()) >= LOADS)  # the one that is held, and one beside it
        brake.released.set()
        ends = [run.communicate(timeout=SECONDS) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ends
    times = sorted((load["started_at"], load["recorded_at"]) for load in loads())
    assert len(times) == 8
    assert max(sum(begin <= started < end for begin, end in times) for started, _ in times) == LOADS


def test_luigi_cfg_may_change_resources_and_the_address(deployment: Deployment) -> None:
    """Also where there is no luigid; what else it says against the packaged luigi.cfg does not count."""
    deployment.directory.mkdir()
    (deployment.directory / "luigi.cfg").write_text(
        "[core]\ndefault_scheduler_url = http://there\n[resources]\nloads = 7\n"
        "[retcode]\ntask_failed = 0\n[worker]\ncheck-complete-on-run = false\n"
    )
    names = (
        ("core", "default_scheduler_url"),
        ("resources", "loads"),
        ("resources", "downloads"),
        ("retcode", "task_failed"),
        ("worker", "check_complete_on_run"),
    )
    code = f"""
import luigi.configuration
from pipeline.runs import process
from pipeline.settings import get_settings
process.configure_process(get_settings())
print(*[luigi.configuration.get_config().get(*name) for name in {names}])
"""
    assert deployment.command(sys.executable, "-c", code).stdout == "http://there 7 2 30 true\n"


def test_unblock(deployment: Deployment, luigid: int) -> None:
    """What luigid disabled is named and may run again, other networks' is left."""
    with_luigid(deployment, luigid)
    remote: Any = RemoteScheduler(f"http://127.0.0.1:{luigid}/")
    policy = {"retry_count": 1, "disable_hard_timeout": 9_999, "disable_window": 3_600}
    for network in ("torus", "bitcoin"):
        parameters = {"network": network, "processing_date": "2025-08-01", "window_days": "195", "table": "raw_alerts"}
        about = {"family": "LoadTable", "params": parameters, "retry_policy_dict": policy}
        remote.add_task(worker="w", task_id=f"LoadTable_{network}", status="PENDING", **about)
        assert remote.get_work(worker="w", host="h")["task_id"] == f"LoadTable_{network}"
        remote.add_task(worker="w", task_id=f"LoadTable_{network}", status="FAILED", **about)
    assert tasks(luigid, "DISABLED") == ["LoadTable", "LoadTable"]
    unblocked = deployment.command("sot-ingest", "unblock", "--network", "torus", "--json")
    assert json.loads(unblocked.stdout) == [
        {"task_id": "LoadTable_torus", "step": "LoadTable raw_alerts", "network": "torus", "date": "2025-08-01"}
    ]
    assert tasks(luigid, "DISABLED") == ["LoadTable"]


def test_the_page_shows_the_failure_and_the_way_to_the_report(
    deployment: Deployment, luigid: int, tmp_path: Path
) -> None:
    """What to do, what happened, and a command to copy, in lines that the page's box holds; a link to the snapshot's
    entry in the report; no traceback; and it was not tried again.
    """
    files = Bucket(tmp_path / "bucket").snapshot()
    files.corrupt("raw_alerts", 100)
    with_luigid(deployment, luigid)
    deployment.source = in_directory(files.root)
    deployment.variables |= {"REPORT_URL": "https://reports.internal/sot.html", "INGESTION_RETRY_ATTEMPTS": "3"}
    result = deployment.command("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus")
    assert result.exit_code == 30
    assert len(result.errors()) == 1
    remote: Any = RemoteScheduler(f"http://127.0.0.1:{luigid}/")
    ((id_, task),) = remote.task_list("FAILED", "").items()
    assert task["tracking_url"] == "https://reports.internal/sot.html#torus-2025-08-01"
    (error,) = result.errors()
    hint, happened, again = shown_error(remote, id_).split("\n\n")
    assert hint.replace("\n", " ") == error["hint"]
    assert "alerts.parquet" in happened
    assert again == "To run it again:\nsot-ingest run --date 2025-08-01 --network torus"
    assert max(map(len, (*hint.splitlines(), *happened.splitlines()))) <= 60


def shown_error(remote: Any, task_id: str) -> str:
    """Return what the page says of a failed task."""
    return str(json.loads(remote.fetch_error(task_id)["error"]))


@pytest.mark.parametrize("command", ["sot-ingest", "luigi"])
def test_the_page_shows_a_missing_snapshot_and_nothing_pending(
    command: str, deployment: Deployment, luigid: int, tmp_path: Path
) -> None:
    """A run that ended with 20 left nothing that looks as if it went on, nor does the next one; FindSnapshot says what
    was missing. When it is there a run takes up all of it.
    """
    bucket = Bucket(tmp_path / "bucket")
    bucket.snapshot("bitcoin")
    with_luigid(deployment, luigid)
    deployment.source = in_directory(bucket.root)
    networks = ("torus", "bitcoin")
    ours = ["sot-ingest", "run", "--date", "2025-08-01", *(word for each in networks for word in ("--network", each))]
    luigis = ["luigi", "--module", "pipeline.tasks", "IngestDaily", "--networks", json.dumps(networks)]
    words = ours if command == "sot-ingest" else [*luigis, "--processing-date", "2025-08-01"]
    remote: Any = RemoteScheduler(f"http://127.0.0.1:{luigid}/")
    for _ in range(2):
        assert deployment.command(*words).exit_code == 20
        assert {status: tasks(luigid, status) for status in ("PENDING", "RUNNING", "FAILED", "DISABLED")} == {
            "PENDING": [],
            "RUNNING": [],
            "FAILED": ["FindSnapshot"],
            "DISABLED": [],
        }
    assert len(deployment.publications(a_day(network="bitcoin"))) == 1
    (id_,) = remote.task_list("FAILED", "")
    shown = shown_error(remote, id_)
    assert shown.startswith("upstream has not published it (yet)")
    assert shown.endswith("\nsot-ingest run --date 2025-08-01 --network torus")
    bucket.snapshot("torus")
    late = deployment.command(*words)
    assert late.exit_code == 0, late.stderr
    assert [tasks(luigid, status) for status in ("PENDING", "FAILED")] == [[], []]
    assert "Traceback" not in (tmp_path / "luigid" / "log").read_text()


@pytest.mark.slow
def test_luigid_dies_in_the_middle_of_a_run(
    deployment: Deployment, luigid: int, clickhouse: ClickHouseServer, samples: Path
) -> None:
    """After luigi has tried for a quarter of a minute the run goes on without it, and publishes once."""
    with_luigid(deployment, luigid)
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
        run = deployment.start("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus")
        assert brake.held.wait(SECONDS)
        for process in psutil.process_iter():
            if process.name() == "luigid" and str(luigid) in process.cmdline():
                process.kill()
        brake.released.set()
        stdout, stderr = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, stdout + stderr
    assert "Going on without luigid" in stderr
    assert "Traceback" not in stderr
    assert len(deployment.publications(a_day())) == 1
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))


def test_a_run_waits_for_a_late_snapshot(tmp_path: Path, server_reader: ServerReader) -> None:
    """What is there is ingested at once; for the other the run looks until the time is over, then exits 20."""
    bucket = Bucket(tmp_path / "bucket")
    bucket.snapshot("bitcoin")
    deployment = Deployment(in_directory(bucket.root), server_reader, tmp_path / "run")
    command = (
        "sot-ingest",
        "run",
        "--date",
        "2025-08-01",
        "--network",
        "torus",
        "--network",
        "bitcoin",
        "--wait",
        "1s",
    )
    result = deployment.command(*command, *ALONE)
    assert result.exit_code == 20
    assert len(result.events("Waiting for snapshots to be published")) == 1
    messages = [event["message"] for event in result.log()]
    assert messages.index("Published snapshot") < len(messages) - 2
    assert len(deployment.publications(a_day(network="bitcoin"))) == 1


@pytest.mark.slow  # tests/system/test_exit_codes.py has each code of each command
@pytest.mark.parametrize("command", ["sot-ingest", "luigi"])
def test_both_commands_give_the_same_exit_codes(command: str, samples: Path, tmp_path: Path) -> None:
    """Done 0, nothing to do 0, missing 20, failed 30, source away 35, configuration 2; luigi.cfg or not."""
    files = Bucket(tmp_path / "bucket").snapshot("bitcoin")
    files.corrupt("raw_alerts", 100)

    def started(day: str, network: str, source: dict[str, str], directory: str = "run") -> Command:
        place = tmp_path / directory
        deployment = Deployment(source, EmbeddedReader(place / "warehouse"), place, dict(HASTE))
        one = ["--network", network]
        ours = ["sot-ingest", "run", "--date", day, *one, "--scheduler", "local"]
        luigis = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--processing-date", day, *one]
        return deployment.start(*(ours if command == "sot-ingest" else [*luigis, "--local-scheduler"]))

    def exit_code(run: Command) -> int:
        run.communicate(timeout=SECONDS)
        return run.wait()

    whole = dict(in_directory(samples))
    away = dict(in_bucket("nowhere", f"http://127.0.0.1:{free_port()}"))
    away |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    asking = started("2025-08-02", "torus", away, "away")  # luigi's command waits between its tries: beside the others
    assert exit_code(started("2025-08-01", "torus", whole)) == 0
    assert exit_code(started("2025-08-01", "torus", whole)) == 0
    assert exit_code(started("2025-08-03", "torus", whole)) == 20
    assert exit_code(started("2025-08-01", "bitcoin", dict(in_directory(files.root)))) == 30
    assert exit_code(started("2025-08-01", "torus", {})) == 2
    assert exit_code(asking) == 35


def test_two_runs_at_once_do_the_work_once(deployment: Deployment, samples: Path) -> None:
    """Two schedulers that do not know of each other, one work directory: one publication, one load a table."""
    snapshot = a_day()
    command = ("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus", "--scheduler", "local")
    processes = [deployment.start(*command) for _ in range(2)]
    outputs = [process.communicate(timeout=SECONDS) for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes, outputs
    assert len(deployment.publications(snapshot)) == 1
    assert {table: len(loads) for table, loads in deployment.loads(snapshot).items()} == {
        "raw_alerts": 1,
        "raw_features": 1,
        "raw_clusters": 1,
        "raw_address_labels": 1,
    }
    deployment.assert_readers_see(SnapshotFiles(samples, snapshot))
    assert deployment.run(snapshot).exit_code == 0
