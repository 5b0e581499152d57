"""Runs the commands of a crontab, for containers: without root, in UTC, with their output as its own.

    python -m pipeline.cron docker/crontab

No cron that Debian or PyPI keep in good repair runs as an ordinary user; what is hard about one, the times, is
:mod:`cronsim`'s. A line is five fields and a command with its arguments, which no shell reads.

At its start every command is run once, one after another in the order of the crontab: a run with nothing to do does
nothing, and a host that was off catches up. ``--heartbeat`` names a file that is touched every minute, for a health
check: when it grows old, nothing is started any more.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

import click
from cronsim import CronSim, CronSimError
from loguru import logger

from pipeline import environment, exit_codes, logs
from pipeline.errors import ConfigError
from pipeline.settings import get_settings

Command = tuple[str, ...]
Stop = SimpleQueue[None]  # not an event, whose lock a signal's handler could find taken by what it interrupts

#: Seconds between two looks at the clock, and two touches of the heartbeat.
TICK = 60.0


@dataclass(frozen=True)
class Line:
    """When a command is due, in UTC."""

    schedule: str  #: five fields
    command: Command


def parse(text: str) -> list[Line]:
    """Return the lines of a crontab. Raises ConfigError that lists every mistake with the number of its line."""
    lines, mistakes = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            lines.append(_parse_line(line))
        except (CronSimError, ValueError) as error:
            mistakes.append(f"line {number}: {error}: {line.strip()!r}")
    if mistakes:
        raise ConfigError("\n".join(mistakes), hint="a line is: minute hour day month weekday command")
    return lines


def _parse_line(line: str) -> Line:
    *fields, command = line.split(maxsplit=5)
    if len(fields) < 5:
        raise ValueError("there is no command")
    CronSim(" ".join(fields), datetime.now(UTC))
    return Line(" ".join(fields), tuple(shlex.split(command)))


def due(lines: Iterable[Line], after: datetime, until: datetime) -> list[Command]:
    """Return the commands with a time later than ``after`` and not later than ``until``, each once, in their order."""
    return list(dict.fromkeys(line.command for line in lines if next(CronSim(line.schedule, after)) <= until))


@dataclass
class Runner:
    """The commands that run, no command beside itself."""

    _running: dict[Command, subprocess.Popen[bytes]] = field(default_factory=dict)
    _is_ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)  #: so that what is begun is ended, or not begun

    def run(self, commands: Iterable[Command]) -> None:
        """Run commands one after another."""
        for command in commands:
            event = logger.bind(command=shlex.join(command))
            with self._lock:
                if self._is_ended:
                    return
                if command in self._running:
                    event.warning("Command still runs since an earlier time: not started again")
                    continue
                try:
                    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  # the operator's own crontab
                except OSError as error:
                    event.error("Command could not be started: {}", error.strerror)
                    continue
                self._running[command] = process
            code = process.wait()
            del self._running[command]
            event.bind(exit_code=code).log("INFO" if code == 0 else "ERROR", "Command ended")

    def end(self) -> None:
        """Start nothing more, and send TERM to what runs."""
        with self._lock:
            self._is_ended = True
            for process in list(self._running.values()):
                process.terminate()


def run(lines: list[Line], stop: Stop, heartbeat: Path | None = None) -> None:
    """Run all commands once, then what becomes due, until there is something in ``stop``; then end what runs.

    Commands that became due at the same time run one after another, others beside them.
    """
    runner, after = Runner(), datetime.now(UTC)
    commands = list(dict.fromkeys(line.command for line in lines))
    with ThreadPoolExecutor(len(commands) + 1) as pool:  # each thread that waits has another command to wait for
        try:
            while True:
                pool.submit(runner.run, commands)
                if heartbeat is not None:
                    heartbeat.touch()
                if _comes(stop, TICK - after.timestamp() % TICK):
                    break
                now = datetime.now(UTC)
                commands, after = due(lines, after, now), now
        finally:
            runner.end()


def _comes(stop: Stop, seconds: float) -> bool:
    try:
        stop.get(timeout=seconds)
    except Empty:
        return False
    return True


@click.command()
@click.argument("crontab", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--heartbeat", type=click.Path(path_type=Path), help="File to touch every minute, for a health check.")
def main(crontab: Path, heartbeat: Path | None) -> None:
    """Run the commands of CRONTAB once and then at their times, which are UTC, until TERM."""
    logs.protect_streams()
    logs.configure(environment.log_format(), "INFO")
    try:
        chosen, lines = get_settings(), parse(crontab.read_text("utf-8"))
    except ConfigError as error:
        for mistake in str(error).splitlines():
            logger.bind(hint=error.hint).error("{}", mistake)
        sys.exit(exit_codes.CONFIG)
    logs.configure(chosen.log_format, chosen.log_level)
    stop: Stop = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.put(None))
    logger.bind(crontab=str(crontab), lines=len(lines)).info("Running every command, then at the times of the crontab")
    run(lines, stop, heartbeat)
    logger.info("Ended")


if __name__ == "__main__":
    main()
