"""What luigid's page shows of a step: how far it is, where to read more, why it failed and how to run it again.

A page is never worth a step: luigid is asked once, and when it does not answer left alone for a while.
"""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Any

import luigi
from luigi.rpc import RPCError
from luigi.task_status import FAILED, PENDING, RUNNING, UNKNOWN

from pipeline.snapshot import Snapshot

#: Seconds between two messages about a step, and until luigid is tried again.
_SECONDS_BETWEEN, _SECONDS_LEFT_ALONE = 1.0, 60.0

_WIDTH = 60  #: characters of the box that shows a failure, which does not wrap

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


def failure(snapshot: Snapshot, usual_window: int, what: str, hint: str) -> str:
    """Return what the page says of a failed step: what to do, what happened, and a command to copy."""
    window = [] if snapshot.window_days == usual_window else [f"--window-days {snapshot.window_days}"]
    options = [f"--date {snapshot.processing_date.isoformat()}", f"--network {snapshot.network}", *window]
    command = " ".join(["sot-ingest run", *options])
    if len(command) > _WIDTH:
        command = " \\\n  ".join(["sot-ingest run", *options])
    return "\n\n".join([_wrapped(hint), _wrapped(what), f"To run it again:\n{command}"])


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, _WIDTH) for line in text.splitlines())


def show_missing(scheduler: Any, worker_id: str, missing: Mapping[str, str]) -> None:
    """Show tasks of a run that ended for want of a snapshot as failed, and what waits for them not at all.

    luigid would show all of it as pending, as if it went on, until it forgets the run after ten minutes. What another
    worker is at work on as well is left alone. ``missing`` says by task what the page says of it.
    """
    for missing_id, said in missing.items():
        for task_id, task in scheduler.inverse_dep_graph(missing_id).items():
            if task["status"] != PENDING or not set(task["workers"]) <= {worker_id}:
                continue
            if task_id != missing_id:
                scheduler.add_task(worker=worker_id, task_id=task_id, status=UNKNOWN, runnable=False)
                continue
            if task["time_running"] is None:  # luigid's metrics subtract it
                scheduler.add_task(worker=worker_id, task_id=task_id, status=RUNNING, runnable=False)
            scheduler.add_task(worker=worker_id, task_id=task_id, status=FAILED, expl=json.dumps(said), runnable=False)
    if missing:
        scheduler.disable_worker(worker=worker_id)  # the next run need not take it for one that is at work


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
