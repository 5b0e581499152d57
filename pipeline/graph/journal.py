"""What this run was asked for and what its steps did, for the end of the run.

Steps run in processes that luigi forks, and their records must reach the first process also when the warehouse is
dead and the disk full: they are appended to a file without a name that all of them inherit.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import StepRecord, step_of


@dataclass
class Journal:
    """One run's journal."""

    handle: int  #: of the file; every write is appended, and whole
    asked: set[Snapshot] = field(default_factory=set)  #: snapshots that the run looked at, in this process
    taken: int = 0  #: bytes of it that :meth:`take` has returned
    cause: str = ""  #: of an end that is no step's
    hint: str = ""

    def records(self) -> tuple[StepRecord, ...]:
        """Return what steps have told, in the order in which they did."""
        return self._read(0)[0]

    def take(self) -> tuple[StepRecord, ...]:
        """Return what steps have told since the last call."""
        records, self.taken = self._read(self.taken)
        return records

    def _read(self, start: int) -> tuple[tuple[StepRecord, ...], int]:
        """Return the records from an offset on, and the offset after them."""
        data = os.pread(self.handle, os.fstat(self.handle).st_size - start, start)
        return tuple(step_of(json.loads(line)) for line in data.splitlines()), start + len(data)


_journal: Journal | None = None


@contextmanager
def open_journal() -> Iterator[Journal]:
    """Open the journal of a run for this process and those that it forks."""
    global _journal  # noqa: PLW0603  # one a process, inherited by forks
    with contextlib.ExitStack() as stack:
        if hasattr(os, "memfd_create"):
            handle = os.memfd_create("sot-ingest-journal")
            stack.callback(os.close, handle)
        else:
            handle = stack.enter_context(tempfile.TemporaryFile()).fileno()
        _append_only(handle)
        _journal = Journal(handle)
        stack.callback(_close)
        yield _journal


def _append_only(handle: int) -> None:
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_APPEND)


def _close() -> None:
    global _journal  # noqa: PLW0603
    _journal = None


def is_open() -> bool:
    """Tell whether a run is under way in this process."""
    return _journal is not None


def append_record(record: StepRecord) -> None:
    """Append what a step did; nothing where no run keeps a journal."""
    if _journal is not None:
        os.write(_journal.handle, json.dumps(record.as_dict(), default=str).encode() + b"\n")


def add_requested(snapshot: Snapshot) -> None:
    """Note that the run is about a snapshot."""
    if _journal is not None:
        _journal.asked.add(snapshot)


def set_cause(cause: str, hint: str) -> None:
    """Note why the run ended when no step can tell."""
    if _journal is not None:
        _journal.cause, _journal.hint = cause, hint
