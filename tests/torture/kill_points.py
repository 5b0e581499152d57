"""Named points of a run: before and after each lock, read, write, fsync, rename, hash, insert, count, statement.

A point is a function that the pipeline calls, not a line of the pipeline: the operating system's, hashlib's, and the
warehouse's statements, which are named by their verb and table.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pathlib
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_append, _write, _stat, _lock = os.open, os.write, os.fstat, fcntl.flock

#: Where the functions of the standard library are, by the name of the point.
_FUNCTIONS: tuple[tuple[str, Any, str], ...] = (
    ("lock a step", fcntl, "flock"),
    ("lock a snapshot", fcntl, "lockf"),
    ("open", pathlib.Path, "open"),
    ("read", pathlib.Path, "read_bytes"),
    ("fsync", os, "fsync"),
    ("rename", os, "replace"),
    ("remove", os, "unlink"),
    ("remove a directory", shutil, "rmtree"),
    ("hash", hashlib, "sha256"),
)


@dataclass(frozen=True)
class Point:
    """One moment of a run."""

    name: str
    occurrence: int  #: the how manieth, counted over all processes of the run
    when: str  #: before or after

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.when} {self.name} #{self.occurrence}"


@dataclass(frozen=True)
class Recording:
    """Writes the name of each point that a run passes to a file, a line each, which begins with before or after.

    A function that raised was passed before, and not after.
    """

    path: Path

    def __call__(self) -> None:
        """Take hold of this process."""
        _wrap(lambda name, when: _line(self.path, f"{when} {name}"))


@dataclass(frozen=True)
class KillAt:
    """Kills the run, all of its processes, at a point."""

    point: Point
    counter: Path  #: a file; its size is how often the point was passed

    def __call__(self) -> None:
        """Take hold of this process."""

        def passed(name: str, when: str) -> None:
            if (name, when) == (self.point.name, self.point.when) and _count(self.counter) == self.point.occurrence:
                os.killpg(0, signal.SIGKILL)

        _wrap(passed)


@dataclass(frozen=True)
class AtPoint:
    """Tells by a file that the run has come to a point, the first time; the run goes on, after a pause if it shall."""

    point: Point
    counter: Path
    reached: Path
    pause: float = 0.0  #: seconds

    def __call__(self) -> None:
        """Take hold of this process."""

        def passed(name: str, when: str) -> None:
            if (name, when) == (self.point.name, self.point.when) and _count(self.counter) == self.point.occurrence:
                os.close(_append(self.reached, os.O_WRONLY | os.O_CREAT))
                time.sleep(self.pause)

        _wrap(passed)
        _wrap_steps(passed)


def _line(path: Path, name: str) -> None:
    handle = _append(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _write(handle, f"{name}\n".encode())
    os.close(handle)


def _count(path: Path) -> int:
    handle = _append(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _lock(handle, fcntl.LOCK_EX)
    _write(handle, b".")
    size = _stat(handle).st_size
    os.close(handle)
    return size


def _wrap(passed: Callable[[str, str], None]) -> None:
    from pipeline.files import atomic  # noqa: PLC0415  # in the command's process alone
    from pipeline.warehouse.server import ServerWarehouse  # noqa: PLC0415

    for name, owner, attribute in (*_FUNCTIONS, ("write a part", atomic, "create_file")):
        setattr(owner, attribute, _around(getattr(owner, attribute), lambda *_, name=name, **__: name, passed))
    for attribute in ("query", "execute", "insert_parquet"):
        setattr(ServerWarehouse, attribute, _around(getattr(ServerWarehouse, attribute), _of_statement, passed))


def _wrap_steps(passed: Callable[[str, str], None]) -> None:
    """Make points of whole steps, ``step LoadTable raw_alerts``: what a run asks first and records last is within."""
    from pipeline.graph.base import StepTask  # noqa: PLC0415  # in the command's process alone

    setattr(StepTask, "run", _around(StepTask.run, lambda task: f"step {task.step}", passed))  # noqa: B010


def _around(function: Any, name_of: Callable[..., str], passed: Callable[[str, str], None]) -> Any:
    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        name = name_of(*arguments, **named)
        passed(name, "before")
        result = function(*arguments, **named)
        passed(name, "after")
        return result

    return wrapped


def _of_statement(_warehouse: Any, statement: Any, **_: Any) -> str:
    """Name a statement, or an insert of a file, by what it does to which table."""
    text = getattr(statement, "into", None)
    if text is not None:
        return f"load into {text.partition('.')[2].partition(' ')[0]}"
    words = re.sub(r"--.*", "", statement).split()
    tables = re.findall(r"\{database\}\.(\w+)", statement)
    if "uniqExact" in statement:
        return f"count and hash {tables[0]}"
    verb = "SELECT" if words[0] in {"SELECT", "WITH"} else " ".join(words[:2])
    return f"{verb} {tables[0] if tables else ''}".strip()
