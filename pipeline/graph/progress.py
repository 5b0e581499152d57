"""How far the steps are: from wherever they run, to whoever shows it.

Steps run in processes that luigi forks, so events travel through a pipe that they inherit. A line is at most
PIPE_BUF bytes and therefore never torn (POSIX, write(2)).
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pipeline.warehouse.step_log import StepState

_SECONDS_BETWEEN = 0.1

_pipe: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far one step is."""

    snapshot: str  #: as people call it
    step: str  #: with its table, where it is about one
    state: Literal["running"] | StepState
    done: int = 0  #: bytes
    total: int | None = None  #: bytes, None when not known
    note: str = ""


def send(event: Progress | str) -> None:
    """Tell the one who shows progress, if there is one: how far a step is, or a line of the log."""
    if _pipe is None:
        return
    limit = select.PIPE_BUF - 64
    value = event if isinstance(event, str) else vars(event)
    if isinstance(value, str):
        value = value.rstrip("\n").encode()[: limit // 2].decode("utf-8", "ignore")
    line = json.dumps(value, ensure_ascii=False)
    while len(line.encode()) > limit:  # characters that JSON escapes took more room
        value = value[: len(value) // 2] if isinstance(value, str) else ""
        line = json.dumps(value, ensure_ascii=False)
    os.write(_pipe, line.encode() + b"\n")


@contextmanager
def channel() -> Iterator[int]:
    """Open the pipe for this process and those it forks; yield the end to read from, at its end when all are gone."""
    global _pipe  # one a process, inherited by forks
    reader, _pipe = os.pipe()
    os.set_inheritable(_pipe, False)
    try:
        yield reader
    finally:
        close_writer()


def close_writer() -> None:
    """Send no more from this process."""
    global _pipe  # noqa: PLW0603
    if _pipe is not None:
        os.close(_pipe)
        _pipe = None


def reporter(snapshot: str, step: str, also: Callable[[int, int | None, str], None]) -> Callable[..., None]:
    """Return a function that takes bytes done and in all, and a note; it passes some on, the last one always."""
    next_at = 0.0

    def report(done: int, total: int | None, note: str = "") -> None:
        nonlocal next_at
        if (total is None or done < total) and time.monotonic() < next_at:
            return
        next_at = time.monotonic() + _SECONDS_BETWEEN
        send(Progress(snapshot, step, "running", done, total, note))
        also(done, total, note)

    return report
