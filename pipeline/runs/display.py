"""Progress on a terminal: a line for each step that runs, one for the whole, the log above them, a sum that stays."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline import logs
from pipeline.graph import progress
from pipeline.graph.progress import Progress
from pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Characters of a bar, and the fewest that are worth one.
BAR, SHORTEST = 30, 6

#: Of a snapshot, beside those for each table; with a SOT ClickHouse there are more.
STEPS, STEPS_A_TABLE = 5, 4


@dataclass
class Running:
    """A step that runs."""

    since: float
    last: Progress


@dataclass
class Board:
    """How far a run is, as its steps tell."""

    snapshots: int  #: that the run is to ingest
    steps: int  #: of each
    started: float  #: on the monotonic clock, as every moment here
    running: dict[tuple[str, str], Running] = field(default_factory=dict)  #: by snapshot and step
    states: dict[str, str] = field(default_factory=dict)  #: what became of the snapshots that something was done for
    downloaded: int = 0  #: bytes
    _done: Counter[str] = field(default_factory=Counter)  #: steps by snapshot
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, event: Progress, now: float) -> None:
        """Note what a step tells."""
        with self._lock:
            if event.state == "running":
                known = self.running.setdefault((event.snapshot, event.step), Running(now, event))
                known.last = event
                return
            last = self.running.pop((event.snapshot, event.step), None)
            if last and event.step.startswith("DownloadFile"):
                self.downloaded += last.last.done
            self._done[event.snapshot] += event.state == "done"
            name = event.step.partition(" ")[0]
            ended = {"failed": "failed", "held": "held", "missing": "not at the source"}.get(event.state)
            if ended or name == "PublishSnapshot":
                self.states[event.snapshot] = ended or "published"
            else:
                self.states.setdefault(event.snapshot, "half done")

    @property
    def ended(self) -> int:
        """How many snapshots something has become of."""
        return sum(state != "half done" for state in self.states.values())

    @property
    def fraction(self) -> float:
        """What part of all is done: snapshots that ended, and of the others the steps that are done."""
        half_done = sum(
            min(self._done[snapshot] / self.steps, 0.95)
            for snapshot, state in self.states.items()
            if state == "half done"
        )
        return min((self.ended + half_done) / self.snapshots, 1.0) if self.snapshots else 1.0

    def lines(self, width: int, height: int, now: float) -> list[Text]:
        """Return what is shown now, in so many columns and rows at most."""
        with self._lock:
            names = {key: f"{key[0]} {key[1].replace(' raw_', ' ')}" for key in self.running}
            widest = max(map(len, names.values()), default=0)
            shown = list(self.running.items())[: max(height - 3, 1)]
            lines = [_running_line(names[key], each, widest, width, now) for key, each in shown]
            if (more := len(self.running) - len(shown)) > 0:
                lines.append(_line(f"and {more} more", None, "", 0, width))
            return [*lines, self._whole(width, now)]

    def _whole(self, width: int, now: float) -> Text:
        part, seconds = self.fraction, now - self.started
        facts = [f"{part:.0%}".replace("%", " %")]
        if part and seconds >= 1:
            facts += [_rate(part * self.snapshots / seconds), f"{duration(seconds * (1 - part) / part)} left"]
        return _line(f"{self.ended} of {_many(self.snapshots, 'snapshot')}", part, "  ".join(facts), 0, width)

    def summary(self, now: float) -> str:
        """Return what stays when all has ended."""
        counts = Counter(self.states.values())
        said = [
            f"{counts[state]} {state}"
            for state in ("published", "held", "failed", "not at the source", "half done")
            if counts[state]
        ]
        untouched = self.snapshots - len(self.states)
        if untouched > 0:
            said.append(f"{untouched} not touched" if said else "nothing was to be done")
        moved = f"; {logs.megabytes(self.downloaded)} downloaded" if self.downloaded else ""
        took = duration(now - self.started)
        return f"{_many(self.snapshots, 'snapshot')} in {took}: {', '.join(said) or 'nothing was to be done'}{moved}"


def _running_line(name: str, running: Running, widest: int, width: int, now: float) -> Text:
    last, facts = running.last, [duration(now - running.since)]
    is_moving = last.total is not None and last.done < last.total
    if last.note and not is_moving:
        facts.insert(0, last.note)
    elif last.total is not None:
        facts.insert(0, f"{last.done / 1e6:,.1f} of {logs.megabytes(last.total)}")
    elif last.done:
        facts.insert(0, logs.megabytes(last.done))
    part = last.done / last.total if is_moving and last.total else None
    return _line(name, part, "  ".join(facts), widest, width)


def _line(name: str, part: float | None, facts: str, widest: int, width: int) -> Text:
    """Return a line: a name, a bar where there is room, and facts at its right end."""
    from rich.text import Text  # noqa: PLC0415  # for a terminal only

    name = f"{name:<{min(widest, max(width - len(facts) - 2, 0))}}"
    if len(name) + len(facts) + 2 > width:
        name = name[: max(width - len(facts) - 3, 0)] + "…"
    length = min(BAR, width - len(name) - len(facts) - 4)
    line = Text(name)
    if part is not None and length >= SHORTEST:
        done = round(part * length)
        line.append("  ").append("━" * done, "cyan").append("╌" * (length - done), "dim")
    return line.append("  " + facts if facts else "")


def _rate(a_second: float) -> str:
    return f"{a_second * 60:,.1f}/min" if a_second * 60 >= 1 else f"{a_second * 3_600:,.1f}/h"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time that grows or shrinks while one looks at it."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def shown(settings: Settings, snapshots: int) -> Iterator[None]:
    """Show on standard error how far the block is with so many snapshots, where that is a terminal; else do nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console, Group  # noqa: PLC0415  # 0.1 s, for which a run with nothing to do would wait
    from rich.live import Live  # noqa: PLC0415

    per_table = STEPS_A_TABLE + (settings.sot_server is not None)
    board = Board(snapshots, STEPS + per_table * len(settings.tables), time.monotonic())
    console = Console(stderr=True)
    live = Live(
        get_renderable=lambda: Group(*board.lines(console.width, console.height, time.monotonic())),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with progress.channel() as reader, live:
        logs.configure(settings.log_format, settings.log_level, sink=progress.send)
        thread = threading.Thread(target=_read, args=(reader, board, console), daemon=True)
        thread.start()
        try:
            yield
        finally:
            logs.configure(settings.log_format, settings.log_level)
            progress.close_writer()
            thread.join(timeout=5)  # a child that outlives us keeps the pipe open
    console.print(board.summary(time.monotonic()), highlight=False)


def _read(reader: int, board: Board, console: Console) -> None:
    """Take what comes through the pipe: how far steps are, and lines of the log."""
    from rich.text import Text  # noqa: PLC0415

    with os.fdopen(reader, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if isinstance(event, str):
                console.print(Text.from_ansi(event), soft_wrap=True)
            else:
                board.take(Progress(**event), time.monotonic())
