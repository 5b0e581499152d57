"""The cron of the containers: every command at the start, then at its times, in UTC."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from pipeline import cron
from pipeline.errors import ConfigError
from tests.support.deployment import SECONDS

NIGHT = datetime(2026, 3, 29, tzinfo=UTC)  # clocks go forward in Europe, at 01:00 UTC


def crontab(*commands: str) -> list[cron.Line]:
    """Return a crontab whose commands are not due for years."""
    return cron.parse("".join(f"0 0 29 2 * {command}\n" for command in commands))


@contextmanager
def running(lines: list[cron.Line], heartbeat: Path | None = None) -> Iterator[None]:
    """Run a crontab while the block runs, then end it."""
    stop: cron.Stop = SimpleQueue()
    thread = threading.Thread(target=cron.run, args=(lines, stop, heartbeat))
    thread.start()
    try:
        yield
    finally:
        stop.put(None)
        thread.join(SECONDS)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for(path: Path, content: str) -> None:
    """Wait until a file has this content."""
    deadline = time.monotonic() + SECONDS
    while not path.exists() or path.read_text() != content:
        assert time.monotonic() < deadline, path.exists() and path.read_text()
        time.sleep(0.01)


def appending(path: Path, word: str, seconds: float = 0) -> str:
    """Return a command that takes its time and then adds a word to a file."""
    return f"sh -c {shlex.quote(f'sleep {seconds}; printf {word} >> {shlex.quote(str(path))}')}"


def test_every_mistake_of_a_crontab_is_told() -> None:
    """With the number of its line; comments and empty lines are none. A variable is not set here."""
    text = "# comment\n\n61 * * * * x\n* * * *\nTZ=Europe/Berlin\n0 1 * * * sot-ingest 'run\n\t# 0 0\n0 1 * * 7 right\n"
    with pytest.raises(ConfigError) as error:
        cron.parse(text)
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "line 3",
        "line 4",
        "line 5",
        "line 6",
    ]


def test_a_command_is_split_as_a_shell_does_it() -> None:
    """Quotes hold together; nothing is expanded."""
    (line,) = cron.parse("*/15  1-3 * *   1   program 'two words' $HOME # %")
    assert line == cron.Line("*/15 1-3 * * 1", ("program", "two words", "$HOME", "#", "%"))


def test_commands_are_due_once_however_many_of_their_times_passed() -> None:
    """Each once, in the order of the crontab; its time belongs to the interval that ends with it. Times are UTC."""
    lines = cron.parse("0 3 * * * late\n0 1 * * * early\n0 2 * * * early\n30 2 * * 1 monday\n")

    def due(hours: float, until: float) -> list[str]:
        return [word for (word,) in cron.due(lines, NIGHT + timedelta(hours=hours), NIGHT + timedelta(hours=until))]

    assert due(0, 0.99) == []
    assert due(0, 1) == ["early"]
    assert due(1, 1.99) == []
    assert due(1, 2) == ["early"]
    assert due(0, 24) == ["late", "early"]
    assert due(0, 240) == ["late", "early", "monday"]


def test_every_command_runs_once_at_the_start(tmp_path: Path) -> None:
    """One after another in the order of the crontab, whenever they are due; at the next start once more."""
    output = tmp_path / "output"
    lines = crontab(appending(output, "a", 0.3), appending(output, "b"), appending(output, "a", 0.3))
    for content in ("ab", "abab"):
        with running(lines):
            wait_for(output, content)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["output"]


def test_a_command_that_fails_stops_no_other(tmp_path: Path) -> None:
    """With an exit code, or because there is no such program."""
    output = tmp_path / "output"
    with running(crontab("false", "/no/such/program", appending(output, "next"))):
        wait_for(output, "next")


def test_commands_run_again_when_they_are_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside those that run longer; what still runs at its next time is not started beside itself."""
    monkeypatch.setattr(cron, "TICK", 0.05)
    monkeypatch.setattr(cron, "due", lambda lines, *_: [line.command for line in lines])
    slow, output = tmp_path / "slow", tmp_path / "output"
    waiting = f"sh -c {shlex.quote(f'printf s >> {slow}; until test -e {output}; do sleep 0.01; done; sleep 30')}"
    with running(crontab(waiting, appending(output, "o"))):
        wait_until(lambda: output.exists() and output.stat().st_size > 2)
    assert slow.read_text() == "s"


def test_the_heartbeat_is_renewed_while_the_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and each minute, whatever the commands do; once the loop hangs, no more."""
    monkeypatch.setattr(cron, "TICK", 0.05)
    hangs, released = threading.Event(), threading.Event()
    heartbeat = tmp_path / "heartbeat"

    def is_renewed() -> bool:
        return heartbeat.exists() and heartbeat.stat().st_mtime > time.time() - 3_000

    def hang(*_: object) -> list[cron.Command]:
        hangs.set()
        released.wait(SECONDS)
        return []

    with running(crontab(f"sleep {SECONDS}"), heartbeat):
        wait_until(is_renewed)
        os.utime(heartbeat, (time.time() - 3_600,) * 2)
        wait_until(is_renewed)
        monkeypatch.setattr(cron, "due", hang)
        assert hangs.wait(SECONDS)
        os.utime(heartbeat, (time.time() - 3_600,) * 2)
        time.sleep(0.2)  # four minutes of this loop
        assert not is_renewed()
        released.set()


def test_term_ends_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    """The command gets the signal and time to end; the one after it is not begun. The output is the commands'."""
    path, output = tmp_path / "crontab", tmp_path / "output"
    trapping = (
        f"trap 'printf ended >> {shlex.quote(str(output))}; exit 143' TERM; echo begun; while :; do sleep 0.05; done"
    )
    path.write_text(f"* * * * * sh -c {shlex.quote(trapping)}\n* * * * * touch {tmp_path / 'never'}\n")
    command = [sys.executable, "-m", "pipeline.cron", str(path)]
    environment = {**os.environ, "SOT_PATH": str(tmp_path), "WAREHOUSE_PATH": str(tmp_path / "warehouse")}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        try:
            _, log = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert output.read_text() == "ended"
    assert not (tmp_path / "never").exists()
    assert "ERROR" in log
    assert "exit_code=143" in log


def test_what_is_just_being_started_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order to stop comes when the command has begun, and its process is not known yet."""
    stop: cron.Stop = SimpleQueue()
    started: list[subprocess.Popen[bytes]] = []

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            started.append(self)
            stop.put(None)
            time.sleep(0.3)

    monkeypatch.setattr(cron.subprocess, "Popen", Slow)  # type: ignore[attr-defined]  # it imports it
    cron.run(crontab(f"sleep {SECONDS}"), stop)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


def test_a_wrong_crontab_is_refused_at_once(tmp_path: Path) -> None:
    """Exit 2 and the line, before anything runs."""
    path = tmp_path / "crontab"
    path.write_text("* * * * * touch made\n99 * * * * false\n")
    command = [sys.executable, "-m", "pipeline.cron", str(path)]
    environment = {**os.environ, "SOT_PATH": str(tmp_path), "WAREHOUSE_PATH": str(tmp_path / "warehouse")}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert " ERROR   line 2: " in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["crontab"]
