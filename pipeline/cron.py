"""Runs the commands of a crontab, for containers: without root, in UTC, with their output as its own.

    python -m pipeline.cron docker/crontab --beat /var/lib/sot-ingest/cron.beat

No cron that Debian or PyPI keep in good repair runs as an ordinary user; what is hard about one, the times, is
:mod:`cronsim`'s. A line is five fields and a command with its arguments, which no shell reads.

The modification time of the file ``--beat`` says until when everything that was due has been started. After a time
that nobody ran, each command that has become due meanwhile is started once, in the order of the crontab: a host that
was off catches up. Where there is no such file yet, this is what was due in the last 24 hours.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue

import click
from cronsim import CronSim, CronSimError
from loguru import logger

from pipeline import logs
from pipeline.errors import ConfigError
from pipeline.settings import get_settings

Command = tuple[str, ...]
Stop = SimpleQueue[None]  # not an event, whose lock a signal's handler could find taken by what it interrupts

FIRST_LOOK_BACK = timedelta(days=1)
_HINT = "a line is: minute hour day month weekday command"


@dataclass(frozen=True)
class Line:
    """When a command is due, in UTC."""

    schedule: str  #: five fields
    command: Command

    def is_due(self, after: datetime, until: datetime) -> bool:
        """Tell whether one of its times is later than ``after`` and not later than ``until``."""
        return next(CronSim(self.schedule, after)) <= until


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
        raise ConfigError("\n".join(mistakes), hint=_HINT)
    return lines


def _parse_line(line: str) -> Line:
    *fields, command = line.split(maxsplit=5)
    if len(fields) < 5:
        raise ValueError("there is no command")
    CronSim(" ".join(fields), datetime.now(UTC))
    return Line(" ".join(fields), tuple(shlex.split(command)))


def due(lines: Iterable[Line], after: datetime, until: datetime) -> list[Command]:
    """Return the commands that became due, each once, in the order of the crontab."""
    return list(dict.fromkeys(line.command for line in lines if line.is_due(after, until)))


@dataclass
class Runner:
    """The commands that run. Those that became due at the same time run one after another, others beside them."""

    _running: dict[Command, subprocess.Popen[bytes]] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)
    _is_ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)  #: so that what is begun is ended, or not begun

    def start(self, commands: list[Command]) -> None:
        """Begin to run commands; returns at once."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if commands:
            self._threads.append(threading.Thread(target=self._run_all, args=(commands,)))
            self._threads[-1].start()

    def _run_all(self, commands: list[Command]) -> None:
        for command in commands:
            self._run(command)

    def _run(self, command: Command) -> None:
        event = logger.bind(command=shlex.join(command))
        if command in self._running:
            event.warning("Command still runs from the time before: not started again")
            return
        with self._lock:
            if self._is_ended:
                return
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  # the operator's own crontab
            except OSError as error:
                event.error("Command could not be started: {}", error.strerror)
                return
            self._running[command] = process
        code = process.wait()
        del self._running[command]
        event.bind(exit_code=code).log("INFO" if code == 0 else "ERROR", "Command ended")

    def end(self) -> None:
        """Start nothing more, send TERM to what runs, and wait for its end."""
        with self._lock:
            self._is_ended = True
            for process in list(self._running.values()):
                process.terminate()
        for thread in self._threads:
            thread.join()


def run(lines: list[Line], beat: Path, stop: Stop) -> None:
    """Start what becomes due, until there is something in ``stop``; then end what runs."""
    runner, pause = Runner(), 0.0
    after = _last_beat(beat)
    while not _comes(stop, pause):
        now = datetime.now(UTC)
        runner.start(due(lines, after, now))
        after = now
        _write_beat(beat, now)
        pause = 60 - now.timestamp() % 60
    runner.end()


def _comes(stop: Stop, seconds: float) -> bool:
    try:
        stop.get(timeout=seconds)
    except Empty:
        return False
    return True


def _last_beat(beat: Path) -> datetime:
    """Return until when all was started."""
    try:
        return datetime.fromtimestamp(beat.stat().st_mtime, UTC)
    except FileNotFoundError:
        return datetime.now(UTC) - FIRST_LOOK_BACK


def _write_beat(beat: Path, moment: datetime) -> None:
    beat.parent.mkdir(parents=True, exist_ok=True)
    beat.touch()
    os.utime(beat, (moment.timestamp(), moment.timestamp()))


@click.command()
@click.argument("crontab", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--beat", type=click.Path(path_type=Path), required=True, help="File that says until when all was done.")
def main(crontab: Path, beat: Path) -> None:
    """Run the commands of CRONTAB at their times, which are UTC, until TERM."""
    try:
        chosen, lines = get_settings(), parse(crontab.read_text("utf-8"))
    except ConfigError as error:
        click.echo(f"{error}\n{error.hint}", err=True)
        sys.exit(2)
    logs.configure(chosen.log_format, chosen.log_level)
    stop: Stop = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.put(None))
    logger.bind(crontab=str(crontab), lines=len(lines)).info("Waiting for the times of the crontab")
    run(lines, beat, stop)
    logger.info("Ended")


if __name__ == "__main__":
    main()
