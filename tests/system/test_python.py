"""``from pipeline import ingest``: a run as the command makes it, from any Python program."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import exit_codes, ingest
from pipeline.dates import today
from pipeline.errors import ConfigError, RequestError
from pipeline.runs.outcome import Outcome
from tests.support.deployment import SECONDS, Deployment, EmbeddedReader, a_day, in_directory
from tests.support.receiver import Receiver

DAY = a_day()
PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")


@pytest.fixture
def deployment(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """What the commands would work with, as this process's environment."""
    made = Deployment(in_directory(samples), EmbeddedReader(tmp_path / "warehouse"), tmp_path / "here")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def ingested(snapshot_day: date = DAY.processing_date, **options: Any) -> Outcome:
    """Call it as the documentation does."""
    return ingest("torus", snapshot_day, window_days=195, scheduler="local", **options)


def test_a_snapshot_is_ingested_as_by_the_command(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same steps, log, message and metrics; then neither the command nor a second call finds anything to do."""
    monkeypatch.setenv("METRICS_PATH", str(tmp_path / "metrics" / "sot.prom"))
    monkeypatch.setenv("NOTIFY_ON_SUCCESS", "true")
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Receiver().running() as receiver:
        monkeypatch.setenv("NOTIFY_URLS", receiver.environment["NOTIFY_URLS"])
        outcome = ingested()
        assert len(receiver.messages) == 1
        again = ingested()
    assert (outcome.exit_code, outcome.troubles, outcome.asked) == (0, (), (DAY,))
    assert [record.snapshot for record in outcome.published] == [DAY]
    assert (again.exit_code, again.published, again.records) == (0, (), ())
    assert again.run_id != outcome.run_id
    assert deployment.run(DAY).done == []
    assert (tmp_path / "metrics" / "sot-torus-run.prom").exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    events = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert "Published snapshot" in events
    assert events.count(f"Run ended: {exit_codes.MEANINGS[0]}") == 2


def test_what_cannot_be_ingested_is_in_the_outcome(deployment: Deployment) -> None:
    """With the exit code of the command, and why."""
    gone = ingested(date(2025, 7, 1))
    assert gone.exit_code == deployment.run(a_day("2025-07-01")).exit_code == exit_codes.MISSING
    ((state, step, hint),) = [(each.state, each.step, each.hint) for each in gone.troubles]
    assert (state, step) == ("missing", "FindSnapshot")
    assert hint


@pytest.mark.usefixtures("deployment")
def test_what_makes_no_sense_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started, in the words of the command."""
    with pytest.raises(RequestError, match=r"'toros' is not one of INGESTION_NETWORKS \(did you mean torus"):
        ingest("toros", DAY.processing_date)
    with pytest.raises(RequestError, match="is in the future"):
        ingest("torus", today() + timedelta(days=2))
    monkeypatch.setenv("INGESTION_WINDOW_DAYS", "0")
    with pytest.raises(ConfigError, match="INGESTION_WINDOW_DAYS"):
        ingest("torus", DAY.processing_date)


@pytest.mark.parametrize("program", re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_a_program_of_the_documentation_runs(deployment: Deployment, program: str) -> None:
    """Each of the two ways publishes the day."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=deployment.environment, cwd=deployment.directory, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert deployment.run(DAY).done == []
    assert len(deployment.publications(DAY)) == 1


PROGRAM = """
import signal
from datetime import date
from pipeline import ingest
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without
ingest("torus", date(2025, 7, 1), scheduler="local", wait=600)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 143), (signal.SIGKILL, None)])
def test_an_interrupt_ends_the_run_in_order(deployment: Deployment, number: signal.Signals, code: int | None) -> None:
    """The caller's, that it gets alone; when the run's process is killed, the caller is told."""
    command = [sys.executable, "-c", PROGRAM]
    caller = subprocess.Popen(
        command, env=deployment.environment, stderr=subprocess.PIPE, text=True, cwd=deployment.directory
    )
    assert caller.stderr is not None
    with caller:
        log = ""
        while "Waiting for snapshots" not in log:
            log += (line := caller.stderr.readline())
            assert line, log
        (child,) = psutil.Process(caller.pid).children()
        (child if code is None else psutil.Process(caller.pid)).send_signal(number)
        log += caller.stderr.read()
        caller.wait(SECONDS)
    if code is None:
        assert "ended with -9 before it could tell what it did" in log
    else:
        assert f'"exit_code": {code}' in log
        assert "KeyboardInterrupt" in log
    assert not child.is_running()
