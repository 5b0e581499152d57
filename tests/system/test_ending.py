"""What every run does beside its work, from both commands: records, messages, pings, metrics; and who reads them.

A week of one network in short: each run is a process, against a real server, with a messenger and a monitor.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click.testing
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import retry as attempts_of_requests
from pipeline import settings
from pipeline.cli import check, history
from pipeline.graph import context
from pipeline.graph.step_records import open_run
from pipeline.runs import lifecycle, process
from tests.conftest import own_databases
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer, free_ports
from tests.support.deployment import (
    ALONE,
    HASTE,
    SECONDS,
    Deployment,
    EmbeddedReader,
    Result,
    ServerReader,
    in_directory,
    run_of,
)
from tests.support.receiver import Receiver
from tests.support.snapshots import Bucket, SnapshotFiles

HOST = socket.gethostname()
LATE = "2025-08-02"


@dataclass
class Week:
    """What happened."""

    deployment: Deployment
    receiver: Receiver
    files: SnapshotFiles
    ended: dict[str, tuple[Result, list[dict[str, Any]], list[str]]] = field(default_factory=dict)

    def run(self, name: str, *command: str) -> None:
        """Run a command, and keep how it ended, its messages and its pings."""
        before = len(self.receiver.messages), len(self.receiver.pings)
        result = self.deployment.command(*command)
        self.ended[name] = result, self.receiver.messages[before[0] :], self.receiver.pings[before[1] :]

    def metrics(self) -> dict[str, float]:
        """Return the samples of all files of METRICS_PATH by name and labels."""
        files = sorted(Path(self.deployment.variables["METRICS_PATH"]).parent.iterdir())
        assert [path.name for path in files] == [f"sot-torus-{about}.prom" for about in ("published", "run", "success")]
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for path in files
            for family in text_string_to_metric_families(path.read_text("utf-8"))
            for sample in family.samples
        }


def luigi_of(files: SnapshotFiles) -> list[str]:
    """Return luigi's own command for the snapshot, in forked workers."""
    task = ["IngestSnapshot", "--network", files.snapshot.network]
    day = ["--processing-date", files.snapshot.processing_date.isoformat()]
    return ["luigi", "--module", "pipeline.tasks", *task, *day, "--workers", "2", "--local-scheduler"]


@pytest.fixture(scope="module")
def week(clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Week]:
    """A bad file, mended; no snapshot; a dead warehouse, and twice nothing to do after it."""
    directory = tmp_path_factory.mktemp("week")
    files = Bucket(directory / "bucket").snapshot()
    good = files.path("raw_alerts").read_bytes()
    with own_databases(clickhouse) as prefix, Receiver().running() as receiver:
        deployment = Deployment(in_directory(files.root), ServerReader(clickhouse, prefix), directory / "run")
        deployment.variables |= {
            **HASTE,
            "INGESTION_NETWORKS": "torus",
            "METRICS_PATH": str(directory / "metrics" / "sot.prom"),
            **receiver.environment,
        }
        made = Week(deployment, receiver, files)
        files.corrupt("raw_alerts", 100)
        made.run("bad file", *luigi_of(files))
        files.overwrite("raw_alerts", good, digest=False)
        made.run("mended", *luigi_of(files))
        made.run("missing", "sot-ingest", "run", "--date", LATE, "--network", "torus", "--scheduler", "local")
        port, deployment.variables["CLICKHOUSE_PORT"] = clickhouse.port, str(*free_ports(1))
        made.run("dead warehouse", *run_of(files.snapshot))
        deployment.variables["CLICKHOUSE_PORT"] = str(port)
        made.run("alive again", *run_of(files.snapshot))
        made.run("nothing after it", *luigi_of(files))
        made.run("history", "sot-ingest", "history", "--date", "2025-08-01", "--json")
        made.run("check", "sot-ingest", "check")
        yield made


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("bad file", 30),
        ("mended", 0),
        ("missing", 20),
        ("dead warehouse", 35),
        ("alive again", 0),
        ("nothing after it", 0),
        ("check", 3),
    ],
)
def test_a_run_pings_its_start_and_its_exit_code(week: Week, name: str, exit_code: int) -> None:
    """Of whichever command, and the code is the one that the command ended with."""
    result, _, pings = week.ended[name]
    assert (result.exit_code, pings) == (exit_code, ["/start", f"/{exit_code}"]), result.stderr


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("bad file", [("failure", "sot-ingest failed: torus 2025-08-01")]),
        ("mended", [("success", "sot-ingest recovered: torus 2025-08-01")]),
        ("missing", [("warning", "sot-ingest found no snapshot: torus 2025-08-02")]),
        ("dead warehouse", [("failure", "sot-ingest failed: torus 2025-08-01")]),
        ("alive again", [("success", "sot-ingest recovered: torus 2025-08-01")]),
        ("nothing after it", []),
        ("check", [("failure", "sot-ingest check failed: torus")]),
    ],
)
def test_a_run_that_failed_or_recovered_sends_one_message(week: Week, name: str, titles: list[tuple[str, str]]) -> None:
    """A recovery is told once, also by a run that found nothing to do."""
    _, messages, _ = week.ended[name]
    assert [(message["type"], message["title"]) for message in messages] == titles


def test_a_message_tells_the_cause_of_a_step_in_a_forked_worker(week: Week) -> None:
    """Host, step, cause, hint, as in the log."""
    result, (message,), _ = week.ended["bad file"]
    (error,) = result.errors()
    cause = error["message"].removeprefix("Step failed: ")
    lines = message["message"].splitlines()
    assert lines[0].startswith("torus 2025-08-01: DownloadFile raw_alerts failed after ")
    assert lines[1:3] == [f"  cause: {cause}", f"  hint: {error['hint']}"]
    assert lines[-1].startswith(f"host {HOST}, exit code 30 (a step failed), ")


def test_programs_are_told_the_same_by_the_log_and_by_messages(week: Week) -> None:
    """Each field of a message to json:// is one of the log's last event: what was published, and which step failed."""
    for name in ("bad file", "mended", "missing", "dead warehouse"):
        result, (message,), _ = week.ended[name]
        end = result.log()[-1]
        assert {field: end.get(field) for field in message["run"]} == message["run"], name
    bad, mended = (week.ended[name][1][0]["run"] for name in ("bad file", "mended"))
    assert (bad["exit_code"], bad["failed_step"]) == (30, "DownloadFile raw_alerts")
    (published,) = week.deployment.publications(week.files.snapshot)
    assert (mended["networks"], mended["dates"]) == (["torus"], ["2025-08-01"])
    assert mended["publication_ids"] == [published["publication_id"]]
    assert mended["manifest_sha256s"] == [published["manifest_sha256"]]
    assert mended["rows"] == published["row_counts"]


def test_a_message_tells_the_cause_when_the_warehouse_is_dead(week: Week) -> None:
    """What cannot be recorded is told all the same, and recorded when the warehouse is alive again."""
    result, (message,), _ = week.ended["dead warehouse"]
    assert "cause: clickhouse at 127.0.0.1:" in message["message"]
    assert [event["level"] for event in result.log() if "Could not record" in event["message"]] == ["WARNING"]
    (failed,) = attempts(week)[2]["steps"]
    assert f"  cause: {failed['error']}\n  hint: {failed['hint']}\n" in message["message"]
    assert week.deployment.work_files().keys() == {"found/check.json"}  # no record waits


def test_no_log_holds_a_key_or_a_token(week: Week) -> None:
    """Of none of the commands."""
    assert "secret" not in "".join(result.stdout + result.stderr for result, _, _ in week.ended.values())


def attempts(week: Week) -> list[dict[str, Any]]:
    """Return the attempts at the day, the oldest first."""
    (day,) = json.loads(week.ended["history"][0].stdout)
    assert (day["network"], day["processing_date"], day["window_days"]) == ("torus", "2025-08-01", 195)
    assert {load["state"] for load in day["loads"]} == {"loaded"}
    assert len(day["loads"]) == 4
    found: list[dict[str, Any]] = day["attempts"][::-1]
    return found


def test_history_knows_every_run_that_did_something(week: Week) -> None:
    """Those with nothing to do left nothing, but the one that found in order what had failed before."""
    runs = attempts(week)
    assert [run["outcome"] for run in runs] == ["failed", "published", "failed", "in order"]
    assert {run["host"] for run in runs} == {HOST}
    done = [(step["step"], step["table"]) for run in runs[:2] for step in run["steps"] if step["state"] == "done"]
    assert len(done) == len(set(done)) == 21
    steps = [step for run in runs[:2] for step in run["steps"] if step["step"] == "LoadTable"]
    loads = {step["table"]: step["facts"]["rows"] for step in steps}
    (publication,) = week.deployment.publications(week.files.snapshot)
    assert loads == publication["row_counts"]


@pytest.fixture
def reading(week: Week, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., click.testing.Result]]:
    """Runs a verb that only reads, in this process: what it makes of the week is what matters."""
    for name, value in week.deployment.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process, "configure_process", lambda _: None)
    for cached in (settings.get_settings, context.get_context):
        cached.cache_clear()
    yield lambda verb, *arguments, **env: click.testing.CliRunner().invoke(verb, arguments, env=env)
    for cached in (settings.get_settings, context.get_context):
        cached.cache_clear()


def test_a_person_reads_the_history(reading: Callable[..., click.testing.Result]) -> None:
    """One line an attempt, in the order of time, and below why steps were not done and what to do."""
    heading, *lines = reading(history.command, "--date", LATE, "--days", "2").stdout.splitlines()
    assert heading.split() == ["date", "network", "started", "(UTC)", "took", "outcome", "step", "host"]
    attempts = lines[: lines.index("")]
    assert [line.split()[6] for line in attempts] == ["failed", "published", "missing", "failed", "in"]
    assert attempts[2].split()[:2] == [LATE, "torus"]
    assert attempts[2].split()[-3:] == ["missing", "FindSnapshot", HOST]
    (cause,) = (place for place, line in enumerate(lines) if line.endswith(", FindSnapshot:"))
    assert lines[cause + 1].startswith("  no snapshots/torus/2025-08-02/195 at file://")
    assert lines[cause + 2].startswith("  upstream has not published it (yet)")


def test_a_person_reads_the_steps_of_a_day(reading: Callable[..., click.testing.Result]) -> None:
    """Of one network: every step of every attempt in their order, then the loads."""
    lines = reading(history.command, "--date", "2025-08-01", "--network", "torus").stdout.splitlines()
    steps, loads = lines[1 : lines.index("")], lines[lines.index("") + 2 :]
    assert len(steps) == 24  # 21 done, two that failed, and the end of the second failure
    assert len([line for line in steps if re.search(r"DownloadFile raw_alerts +failed", line)]) == 1
    assert re.search(r"LoadTable raw_features +done .* 50 +[\d,]+ +" + HOST, "\n".join(steps))
    assert [line.split()[4] for line in loads[:4]] == ["loaded"] * 4
    assert "No run did anything" in reading(history.command, "--date", "2025-07-01").stdout


def test_check_tells_whether_the_newest_day_is_young_enough(
    week: Week, reading: Callable[..., click.testing.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the end of the day, and not by the moment of the publication, which was a minute ago; 35 when nobody knows."""
    old = week.ended["check"][0]
    assert (old.exit_code, old.stdout.splitlines()[1].split()[:3]) == (3, ["torus", "too", "old"])
    patient = ("--max-age", "1000000h")
    young = reading(check.command, *patient, "--json")
    (fresh,) = json.loads(young.stdout)
    assert (young.exit_code, fresh["state"], fresh["processing_date"]) == (0, "fresh", "2025-08-01")
    empty = reading(check.command, *patient, "--window-days", "7")
    assert (empty.exit_code, "nothing with a window of 7 days" in empty.stdout) == (3, True)
    for cached in (settings.get_settings, context.get_context):
        cached.cache_clear()
    monkeypatch.setattr(attempts_of_requests, "DEFAULT", attempts_of_requests.RetryPolicy(tries=1))
    dead = reading(check.command, *patient, CLICKHOUSE_PORT=str(*free_ports(1)))
    assert (dead.exit_code, "unknown" in dead.stdout) == (35, True)


def test_the_metrics_are_those_of_the_week(week: Week) -> None:
    """The last run found nothing to do; the publication is that of the second."""
    found = week.metrics()
    (publication,) = week.deployment.publications(week.files.snapshot)
    assert found["sot_ingest_last_run_exit_code torus"] == 0
    assert time.time() - found["sot_ingest_last_run_timestamp_seconds torus"] < 600
    assert found["sot_ingest_newest_day_end_timestamp_seconds torus"] == 1_754_092_800  # 2025-08-02T00:00:00Z
    assert found["sot_ingest_newest_rows torus raw_alerts"] == publication["row_counts"]["raw_alerts"]


@pytest.mark.parametrize("command", ["sot-ingest", "luigi"])
def test_a_terminated_run_tells_so(
    command: str, clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """SIGTERM in the middle of a load, which is in a forked worker: message, ping, record; the code is the signal's."""
    files = Bucket(tmp_path / "bucket").snapshot()
    with (
        Receiver().running() as receiver,
        Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake,
    ):
        deployment = Deployment(in_directory(files.root), ServerReader(clickhouse, database_prefix), tmp_path / "run")
        deployment.variables |= {"CLICKHOUSE_HTTP_PORT": str(brake.port), **receiver.environment}
        started = deployment.start(*(run_of(files.snapshot) if command == "sot-ingest" else luigi_of(files)))
        held = brake.held.wait(SECONDS)
        os.kill(started.pid, signal.SIGTERM)
        _, stderr = started.communicate(timeout=SECONDS)
    assert held, stderr
    assert (started.returncode, receiver.pings) == (143, ["/start", "/143"]), stderr
    (message,) = receiver.messages
    assert "LoadTable raw_" in message["message"]
    assert "  cause: Interrupted: SIGTERM\n  hint: a rerun goes on from here" in message["message"]
    query = "SELECT DISTINCT error FROM {db}.sot_steps WHERE state = 'failed'"
    assert deployment.query("torus", query) == [("Interrupted: SIGTERM",)]


def test_what_a_killed_run_did_is_recorded_by_the_next(server_reader: ServerReader, tmp_path: Path) -> None:
    """Its file is left, the next run sends what is in it, each record once, and leaves none."""
    files = Bucket(tmp_path / "bucket").snapshot()
    deployment = Deployment(in_directory(files.root), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})
    deployment.killed("Loaded table", 2, *run_of(files.snapshot), "--workers", "1")
    (left,) = (deployment.work / "runs").iterdir()
    assert deployment.run(files.snapshot).exit_code == 0
    assert list((deployment.work / "runs").iterdir()) == []
    run_id = left.stem.rpartition("-")[2]
    query = f"SELECT count(), uniqExact(table_name) FROM {{db}}.sot_steps WHERE run_id = '{run_id}' AND step = '{{}}'"
    assert deployment.query("torus", query.replace("{}", "DownloadManifest")) == [(1, 1)]
    ((rows, tables),) = deployment.query("torus", query.replace("{}", "LoadTable"))
    assert rows == tables >= 1  # the last of them is told before it is recorded


def test_a_message_tells_the_cause_where_no_record_can_be_written(server_reader: ServerReader, tmp_path: Path) -> None:
    """The work directory takes no file of records: forked steps tell the end of the run all the same."""
    files = Bucket(tmp_path / "bucket").snapshot()
    files.corrupt("raw_alerts", 100)
    deployment = Deployment(in_directory(files.root), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})
    deployment.work.mkdir(parents=True)
    (deployment.work / "runs").touch()
    with Receiver().running() as receiver:
        deployment.variables |= receiver.environment
        result = deployment.run(files.snapshot)
        (message,) = receiver.messages
    (error,) = result.errors()
    assert (result.exit_code, error["step"]) == (30, "DownloadFile")
    assert f"  cause: {error['message'].removeprefix('Step failed: ')}\n" in message["message"]
    query = "SELECT DISTINCT step FROM {db}.sot_steps WHERE state = 'failed'"
    assert deployment.query("torus", query) == [("DownloadFile",)]


def test_networks_that_fail_differently_keep_neither_each_other_nor_their_exit_codes(
    server_reader: ServerReader, tmp_path: Path
) -> None:
    """The first network's warehouse is dead, the second has a bad file, the third is ingested: 35, 30 and 0."""
    bucket = Bucket(tmp_path / "bucket")
    snapshots = {network: bucket.snapshot(network) for network in ("bitcoin", "ethereum", "torus")}
    snapshots["ethereum"].corrupt("raw_alerts", 100)
    directory = tmp_path / "metrics"
    with Receiver().running() as receiver:
        variables = {
            **HASTE,
            "INGESTION_NETWORKS": ",".join(snapshots),
            "BITCOIN_CLICKHOUSE_PORT": str(*free_ports(1)),
            "METRICS_PATH": str(directory / "sot.prom"),
            **receiver.environment,
        }
        variables["PING_URL"] += "/{network}"
        deployment = Deployment(in_directory(bucket.root), server_reader, tmp_path / "run", variables)
        date = snapshots["torus"].snapshot.processing_date.isoformat()
        result = deployment.command("sot-ingest", "run", "--date", date, *ALONE)
        ends = {ping for ping in receiver.pings if not ping.endswith("/start")}
    assert result.exit_code == 35, result.stderr
    shown = {
        sample.labels["network"]: sample.value
        for path in directory.glob("*-run.prom")
        for family in text_string_to_metric_families(path.read_text("utf-8"))
        for sample in family.samples
        if sample.name == "sot_ingest_last_run_exit_code"
    }
    assert shown == {"bitcoin": 35, "ethereum": 30, "torus": 0}
    assert ends == {"/bitcoin/35", "/ethereum/30", "/torus/0"}
    assert len(deployment.publications(snapshots["torus"].snapshot)) == 1


def test_services_that_refuse_change_nothing(tmp_path: Path) -> None:
    """Messenger and monitor answer 500, the metrics' directory cannot be made: three warnings, the same exit code."""
    files = Bucket(tmp_path / "bucket").snapshot()
    (tmp_path / "file").touch()
    with Receiver(status=500).running() as receiver:
        deployment = Deployment(in_directory(files.root), EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run")
        deployment.variables |= {"METRICS_PATH": str(tmp_path / "file" / "sot.prom"), **receiver.environment}
        deployment.variables["NOTIFY_ON_SUCCESS"] = "true"
        result = deployment.run(files.snapshot)
    assert result.exit_code == 0
    warnings = [event["message"] for event in result.log() if event["level"] == "WARNING"]
    assert warnings[0] == "Could not ping /start: ResponseError"
    assert warnings[1] == "Could not send the message to service 1 of NOTIFY_URLS (json)"
    assert warnings[2].startswith("Could not write METRICS_PATH: ")
    assert warnings[3:] == ["Could not ping /0: ResponseError"]
    deployment.assert_readers_see(files)


def test_an_action_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run does not wait for it, nor for one that fails."""
    monkeypatch.setattr(lifecycle, "SECONDS", 0.2)
    started = time.monotonic()
    assert lifecycle._bounded("wait", lambda: time.sleep(30)) is None
    assert lifecycle._bounded("divide", lambda: 1 // 0) is None
    assert lifecycle._bounded("add", lambda: 1 + 1) == 2
    assert time.monotonic() - started < 5


def test_a_run_within_a_run_has_no_end_of_its_own(tmp_path: Path) -> None:
    """Several days in one command are one run, with one message."""
    chosen = settings.Settings.model_validate({"SOT_PATH": tmp_path, "WAREHOUSE_PATH": tmp_path, "WORK_PATH": tmp_path})
    with open_run(context.Context(chosen)):
        assert lifecycle.run_with_lifecycle(lambda: 30, {}) == 30
