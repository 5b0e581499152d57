"""A backfill: the days of a range that are not published, one after another, and in the end what is left and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import ending, journal, process
from pipeline.context import context
from pipeline.missing import NO_SNAPSHOT, Left, missing, why_left
from pipeline.run import is_scheduler_there, run_task, say_outcome
from pipeline.snapshot import Snapshot

#: The exit codes of a run that came to its end; after any other one nothing can be said of what is left.
_ENDED = frozenset({0, process.EXIT_MISSING, process.EXIT_TASK_FAILED})


@dataclass(frozen=True)
class Backfill:
    """What to do: ``snapshots`` are all of a range, the oldest first."""

    snapshots: Sequence[Snapshot]
    workers: int | None
    local_scheduler: bool
    reverse: bool
    check_source: bool


@dataclass(frozen=True)
class Backfilled:
    """How a backfill ended."""

    exit_code: int
    published_before: int
    published_now: int
    left: Sequence[Left]


def carry_out(wanted: Backfill) -> Backfilled:
    """Ingest what is missing. Raises Interrupted, WarehouseError, SourceError."""
    results: list[Backfilled] = []

    def work() -> int:
        results.append(_ingest(wanted))
        return results[0].exit_code

    ending.carried_out(work)
    return results[0]


def _ingest(wanted: Backfill) -> Backfilled:
    shared, snapshots = context(), wanted.snapshots
    to_do = missing(shared, snapshots, check_source=wanted.check_source)
    for snapshot in to_do:
        journal.ask(snapshot)
    before, code = len(snapshots) - len(to_do), 0
    if to_do and not is_scheduler_there(local_scheduler=wanted.local_scheduler):
        return Backfilled(process.EXIT_LUIGI, before, 0, [])
    if to_do:
        code = run_task(shared, _task(wanted), wanted.workers, local_scheduler=wanted.local_scheduler)
    still = missing(shared, to_do, check_source=wanted.check_source) if to_do else []
    left = why_left(shared, still, ended=code in _ENDED)
    code = _exit_code(code, left)
    networks = ",".join(_networks(snapshots))
    days = {"first": snapshots[0].processing_date.isoformat(), "last": snapshots[-1].processing_date.isoformat()}
    say_outcome(code, **days, networks=networks, published=len(to_do) - len(still), left=len(left))
    return Backfilled(code, before, len(to_do) - len(still), left)


def _task(wanted: Backfill) -> list[str]:
    """Return what one would type after ``luigi``."""
    first, last = wanted.snapshots[0], wanted.snapshots[-1]
    task = ["IngestRange", "--first", first.processing_date.isoformat(), "--last", last.processing_date.isoformat()]
    task += ["--window-days", str(first.window_days), "--networks", json.dumps(_networks(wanted.snapshots))]
    options = {"--reverse": wanted.reverse, "--check-source": wanted.check_source}
    return [*task, *(option for option, chosen in options.items() if chosen)]


def _networks(snapshots: Sequence[Snapshot]) -> list[str]:
    return list(dict.fromkeys(snapshot.network for snapshot in snapshots))


def _exit_code(code: int, left: Sequence[Left]) -> int:
    """Return luigi's exit code, unless what is left says more than it: days may have come or gone meanwhile."""
    if code not in _ENDED:
        return code
    if not left:
        return 0
    return process.EXIT_MISSING if all(item.reason == NO_SNAPSHOT for item in left) else process.EXIT_TASK_FAILED
