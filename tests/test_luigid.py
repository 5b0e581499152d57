"""The real luigid, two workers, three networks; and the ``luigi`` command's exit codes."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import (
    SECONDS,
    Deployment,
    EmbeddedReader,
    ServerReader,
    a_day,
    in_bucket,
    in_directory,
)
from tests.support.luigid import free_port, running_luigid
from tests.support.snapshots import Bucket, SnapshotFiles

ROOT = Path(__file__).parents[1]
NETWORKS = ("ethereum", "bitcoin", "torus")


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[int]:
    """The port of a luigid with the settings of our luigi.cfg."""
    with running_luigid(tmp_path / "luigid") as port:
        yield port


def tasks(port: int, status: str) -> list[str]:
    """Return the families of luigid's tasks of a status."""
    data = urllib.parse.quote(json.dumps({"status": status, "upstream_status": ""}))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/task_list?data={data}", timeout=10) as answer:
        response: dict[str, dict[str, str]] = json.load(answer)["response"]
    return sorted(task["name"] for task in response.values())


@pytest.fixture
def deployment(clickhouse: ClickHouseServer, database_prefix: str, samples: Path, tmp_path: Path) -> Deployment:
    """The samples, and a ClickHouse server."""
    return Deployment(in_directory(samples), ServerReader(clickhouse, database_prefix), tmp_path / "run")


def with_luigid(deployment: Deployment, port: int) -> Deployment:
    """Let a deployment's luigi.cfg name a luigid."""
    deployment.directory.mkdir()
    (deployment.directory / "luigi.cfg").write_text(f"[core]\ndefault-scheduler-port = {port}\n")
    return deployment


def test_luigid_runs_three_networks_with_two_workers(deployment: Deployment, samples: Path, luigid: int) -> None:
    """Every task is done once, as its metrics say; each network is published once; a second run does nothing."""
    with_luigid(deployment, luigid)
    command = ("sot-ingest", "run", "--date", "2025-08-01", "--workers", "2")
    result = deployment.command(*command)
    assert result.exit_code == 0, result.stderr
    done = tasks(luigid, "DONE")
    steps = {"DownloadManifest": 3, "DownloadFile": 12, "LoadTable": 12, "PublishSnapshot": 3, "CleanUp": 3}
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


def test_a_missing_luigid_is_said_at_once(deployment: Deployment) -> None:
    """Exit 40 and how to go on, where luigi itself would try for minutes."""
    with_luigid(deployment, free_port())
    result = deployment.command("sot-ingest", "run", "--date", "2025-08-01")
    assert result.exit_code == 40
    (event,) = result.log()
    assert "luigid" in event["message"]
    assert "--local-scheduler" in event["hint"]


@pytest.mark.parametrize("command", ["sot-ingest", "luigi"])
def test_both_commands_give_the_same_exit_codes(command: str, samples: Path, tmp_path: Path) -> None:
    """Done 0, nothing to do 0, missing 20, failed 30, source away 35, configuration 2; luigi.cfg or not."""
    files = Bucket(tmp_path / "bucket").snapshot("bitcoin")
    files.corrupt("raw_alerts", 100)

    def exit_code(day: str, network: str, source: dict[str, str]) -> int:
        deployment = Deployment(source, EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run")
        one = ["--network", network]
        ours = ["sot-ingest", "run", "--date", day, *one, "--local-scheduler"]
        luigis = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--processing-date", day, *one]
        chosen = ours if command == "sot-ingest" else [*luigis, "--local-scheduler"]
        return deployment.command(*chosen).exit_code

    whole = dict(in_directory(samples))
    away = dict(in_bucket("nowhere", f"http://127.0.0.1:{free_port()}"))
    assert exit_code("2025-08-01", "torus", whole) == 0
    assert exit_code("2025-08-01", "torus", whole) == 0
    assert exit_code("2025-08-03", "torus", whole) == 20
    assert exit_code("2025-08-01", "bitcoin", dict(in_directory(files.root))) == 30
    assert exit_code("2025-08-02", "torus", {**away, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}) == 35
    assert exit_code("2025-08-01", "torus", {}) == 2


def test_two_runs_at_once_do_the_work_once(deployment: Deployment, samples: Path) -> None:
    """Two schedulers that do not know of each other, one work directory: one publication, one load a table."""
    snapshot = a_day()
    command = ("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus", "--local-scheduler")
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
