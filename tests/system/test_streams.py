"""Standard output and error that fail: the exit code is the work's, and what is lost is lost."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.cli import VERBS
from pipeline.snapshot import Snapshot
from tests.support.deployment import SECONDS, Deployment, ServerReader, a_day, in_directory
from tests.support.snapshots import Bucket, SnapshotFiles

#: What a shell does to the streams of a command.
BROKEN = {
    "the log is closed": "2>&-",
    "the log's disk is full": "2>/dev/full",
    "the log's reader is gone": "2> >(exec true)",
    "all are closed": "0<&- 1>&- 2>&-",
    "all are full": "1>/dev/full 2>/dev/full",
    "nobody reads": "1> >(exec true) 2> >(exec true)",
}

#: What verbs are asked that answer something, and do not take long.
ARGUMENTS = {
    "plan": ["--date", "2025-08-01"],
    "backfill": ["--from", "2025-08-01", "--to", "2025-08-01", "--scheduler", "local"],
    "rollback": ["--date", "2025-08-01", "--network", "torus"],
    "rerun": ["--date", "2025-08-03", "--network", "torus", "--scheduler", "local", "--yes"],
    "run": ["--date", "2025-08-01", "--scheduler", "local"],
    "history": ["--date", "2025-08-01"],
    "report": ["--json"],
    "gc": ["--dry-run"],
    "doctor": ["--offline"],
    "check": ["--max-age", "1h"],
    "serve": ["--host", "nowhere.invalid"],
}


def shell(deployment: Deployment, command: Sequence[str], streams: str, **variables: str) -> tuple[int, bytes, bytes]:
    """Run a command with its streams as a shell makes them; return its exit code and what came of them."""
    script = f'sleep 0; exec "$@" {streams}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command],
        env={**deployment.environment, **variables},
        cwd=deployment.directory,
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def deployment(server_reader: ServerReader, samples: Path, tmp_path: Path) -> Deployment:
    """The samples, and a ClickHouse server."""
    return Deployment(in_directory(samples), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})


def run_of(snapshot: Snapshot, command: str) -> list[str]:
    """Return the command that ingests a snapshot, with forked steps."""
    day, network = snapshot.processing_date.isoformat(), snapshot.network
    if command == "luigi":
        luigi = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--local-scheduler", "--workers", "2"]
        return [*luigi, "--network", network, "--processing-date", day]
    return [
        "sot-ingest",
        "run",
        "--date",
        day,
        "--network",
        network,
        "--scheduler",
        "local",
        "--workers",
        "2",
        "--json",
    ]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        pytest.param(name, command, marks=[] if number % 2 == other else [pytest.mark.slow])
        for number, name in enumerate(BROKEN)
        for other, command in enumerate(("sot-ingest", "luigi"))
    ],
)
def test_a_day_is_ingested_whatever_becomes_of_its_log(
    name: str, command: str, deployment: Deployment, samples: Path
) -> None:
    """0 for a good day with its rows published, 20 for one that is not there."""
    code, _, _ = shell(deployment, run_of(a_day(), command), BROKEN[name])
    assert code == 0
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))
    missing = Snapshot("torus", a_day().processing_date.replace(year=2024), 195)
    assert shell(deployment, run_of(missing, command), BROKEN[name])[0] == 20


@pytest.mark.parametrize(
    ("command", "streams"), [("sot-ingest", "2>&-"), ("luigi", "1>/dev/full 2>/dev/full")], ids=["sot-ingest", "luigi"]
)
def test_a_failure_keeps_its_code(command: str, streams: str, deployment: Deployment, tmp_path: Path) -> None:
    """30 for a damaged file, 2 for a wrong configuration, without a log and with one that is full."""
    files = Bucket(tmp_path / "bucket").snapshot()
    files.corrupt("raw_alerts", 100)
    deployment.source = in_directory(files.root)
    assert shell(deployment, run_of(a_day(), command), streams)[0] == 30
    assert shell(deployment, run_of(a_day(), command), streams, CLICKHOUSE_PORT="x")[0] == 2


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=[] if verb in {"run", "status", "doctor", "unblock"} else [pytest.mark.slow])
        for verb in VERBS
    ],
)
def test_every_verb_ends_as_it_would(verb: str, deployment: Deployment) -> None:
    """With streams that fail, and with letters that they cannot encode, the code is that of sound streams."""
    deployment.directory.mkdir()
    deployment.variables["WORK_PATH"] = str(deployment.directory / "☃")
    command = ["sot-ingest", verb, *ARGUMENTS.get(verb, [])]
    sound = deployment.command(*command)
    assert "Traceback" not in sound.stderr
    for streams, variables in (
        ("1>&- 2>&-", {}),
        ("1>/dev/full 2>/dev/full", {}),
        ("1> >(exec true)", {"PYTHONIOENCODING": "ascii"}),
    ):
        code, _, log = shell(deployment, command, streams, **variables)
        assert (streams, code) == (streams, sound.exit_code)
        assert b"Traceback" not in log
        assert b"Errno" not in log


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["doctor", "--offline"]])
def test_what_is_printed_may_be_read_in_part(arguments: list[str], deployment: Deployment) -> None:
    """As with ``| head``: no error, no traceback, nothing on the log."""
    code, _, log = shell(deployment, ["sot-ingest", *arguments], "1> >(head -c 1)")
    assert (code, log) == (0, b"")


def test_an_answer_that_could_not_be_written_is_said(deployment: Deployment) -> None:
    """Where the log still can: a disk that is full is no reader that has seen enough."""
    code, _, log = shell(deployment, ["sot-ingest", "doctor", "--offline", "--json"], "1>/dev/full")
    assert code == 0
    (event,) = map(json.loads, log.splitlines())
    assert (event["level"], event["message"]) == (
        "WARNING",
        "Standard output could not be written: No space left on device",
    )


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii:strict"},
    ],
)
def test_doctor_answers_in_every_locale(locale: dict[str, str], deployment: Deployment) -> None:
    """What cannot be written in the locale's letters is escaped, and nothing else is another."""
    deployment.directory.mkdir()
    deployment.variables |= {"WORK_PATH": str(deployment.directory / "☃"), "LOG_FORMAT": "text"}
    code, answer, log = shell(deployment, ["sot-ingest", "doctor", "--offline", "--settings"], "", **locale)
    assert (code, log) == (0, b"")
    assert re.search(rb"WORK_PATH +\S+/(\\u2603|\xe2\x98\x83)", answer)
