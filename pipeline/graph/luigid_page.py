"""What luigid's page shows of a step that runs: how far it is, and where to read more.

A page is never worth a step: luigid is asked once, and when it does not answer left alone for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import luigi
from luigi.rpc import RPCError

from pipeline.snapshot import Snapshot

#: Seconds between two messages about a step, and until luigid is tried again.
_SECONDS_BETWEEN, _SECONDS_LEFT_ALONE = 1.0, 60.0

_next_at = 0.0  #: on the monotonic clock; a process runs one step at a time


def show(task: luigi.Task, done: int, total: int | None, note: str) -> None:
    """Show how far a task is, the last time always."""
    global _next_at  # noqa: PLW0603
    if (total is None or done < total) and time.monotonic() < _next_at:
        return
    _next_at = time.monotonic() + _SECONDS_BETWEEN
    if total is not None:
        _tell(task.set_progress_percentage, round(100 * done / total) if total else 100)
    size = _megabytes(done) if total is None else f"{_megabytes(done)} of {_megabytes(total)}"
    _tell(task.set_status_message, f"{size} MB, {note}" if note else f"{size} MB")


def link(task: luigi.Task, report: str | None, snapshot: Snapshot) -> None:
    """Let a task's line lead to the snapshot's entry in the report."""
    if report:
        _tell(task.set_tracking_url, f"{report}#{snapshot.network}-{snapshot.processing_date.isoformat()}")


def _tell(method: Callable[[Any], None] | None, value: int | str) -> None:
    """Call a method that luigi gives a task while a worker runs it, without luigi's minute of trying again."""
    global _next_at  # noqa: PLW0603
    if method is None or time.monotonic() < _next_at - _SECONDS_BETWEEN:
        return
    scheduler = method.__self__._scheduler  # type: ignore[attr-defined]  # noqa: SLF001  # luigi offers no other way
    tries = getattr(scheduler, "_rpc_retry_attempts", None)  # a scheduler in this process has none
    try:
        scheduler._rpc_retry_attempts = 1  # noqa: SLF001
        method(value)
    except RPCError:
        _next_at = time.monotonic() + _SECONDS_LEFT_ALONE
    finally:
        scheduler._rpc_retry_attempts = tries  # noqa: SLF001


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"
