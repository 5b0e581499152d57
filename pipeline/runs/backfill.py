"""A backfill: the days of a range that are not published, one after another, and in the end what is left and why."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from loguru import logger

from pipeline import exit_codes
from pipeline.errors import SourceError, WarehouseError, WorkDirectoryError
from pipeline.graph import step_records
from pipeline.graph.context import Context, get_context
from pipeline.graph.luigid import Scheduler
from pipeline.graph.remaining import NO_SNAPSHOT, RemainingSnapshot, explain_remaining, remaining_snapshots
from pipeline.runs import display, lifecycle
from pipeline.runs.ingest import run_task
from pipeline.snapshot import Snapshot

#: How many snapshots luigi is given at once, about: 13 steps each.
PART = 24

#: The exit codes of a run that came to its end; after any other one nothing can be said of what is left.
_ENDED = frozenset({0, exit_codes.MISSING, exit_codes.TASK_FAILED})


@dataclass(frozen=True)
class Backfill:
    """What to do: ``snapshots`` are all of a range, the oldest first."""

    snapshots: Sequence[Snapshot]
    workers: int | None
    scheduler: Scheduler
    reverse: bool
    check_source: bool
    limit: int | None = None  #: days that are not published, at most


@dataclass(frozen=True)
class BackfillResult:
    """How a backfill ended."""

    exit_code: int
    published_before: int
    published_now: int
    left: Sequence[RemainingSnapshot]
    beyond_limit: int = 0  #: snapshots that are not published and were left for another time


def chosen_snapshots(shared: Context, wanted: Backfill) -> tuple[list[Snapshot], int]:
    """Return what a backfill would ingest, and how many snapshots more are not published but beyond its limit.

    Raises WarehouseError, and SourceError when the source is asked.
    """
    to_do = remaining_snapshots(shared, wanted.snapshots, check_source=wanted.check_source)
    days = sorted({snapshot.processing_date for snapshot in to_do}, reverse=wanted.reverse)
    chosen = [snapshot for snapshot in to_do if snapshot.processing_date in days[: wanted.limit]]
    return chosen, len(to_do) - len(chosen)


def run_backfill(wanted: Backfill) -> BackfillResult:
    """Ingest what is missing; of a run that did not come to its end only the exit code is known."""
    results: list[BackfillResult] = []
    days = [snapshot.processing_date.isoformat() for snapshot in (wanted.snapshots[0], wanted.snapshots[-1])]
    facts: dict[str, Any] = {"first": days[0], "last": days[1], "networks": _networks(wanted.snapshots)}

    def work() -> int:
        try:
            results.append(_ingest_missing(get_context(), wanted))
        except (SourceError, WarehouseError, WorkDirectoryError) as error:
            logger.bind(hint=error.hint).error("Could not tell what is missing: {}", error)
            step_records.set_cause(str(error), error.hint)
            return exit_codes.UNKNOWN
        facts["left"] = len(results[0].left)
        return results[0].exit_code

    code = lifecycle.run_with_lifecycle(work, facts)
    return replace(results[0], exit_code=code) if results else BackfillResult(code, 0, 0, [])


def _ingest_missing(shared: Context, wanted: Backfill) -> BackfillResult:
    to_do, beyond = chosen_snapshots(shared, wanted)
    before = len(wanted.snapshots) - len(to_do) - beyond
    for snapshot in to_do:
        step_records.add_requested(snapshot)
    code = 0
    with display.shown(shared.settings, len(to_do)):
        for part in parts(to_do, reverse=wanted.reverse):
            code = max(code, run_task(shared, _task(part, wanted), wanted.workers, wanted.scheduler))
            if code in {exit_codes.UNKNOWN, exit_codes.LUIGI}:
                break  # a service does not answer, and would not for the next part either
    still = remaining_snapshots(shared, to_do, check_source=wanted.check_source) if to_do else []
    left = explain_remaining(shared, still, ended=code in _ENDED)
    return BackfillResult(_exit_code(code, left), before, len(to_do) - len(still), left, beyond)


def parts(to_do: Sequence[Snapshot], *, reverse: bool) -> Iterator[list[Snapshot]]:
    """Yield the snapshots, the oldest first, in parts of whole days, in the order that the days are to be done in.

    For each step that it hands out luigi's scheduler looks at all that are left: of 7,605 steps that was most of the
    time.
    """
    by_day: dict[date, list[Snapshot]] = defaultdict(list)
    for snapshot in to_do:
        by_day[snapshot.processing_date].append(snapshot)
    part: list[Snapshot] = []
    for day in sorted(by_day, reverse=reverse):
        if part and len(part) + len(by_day[day]) > PART:
            yield part
            part = []
        part += by_day[day]
    if part:
        yield part


def _task(part: Sequence[Snapshot], wanted: Backfill) -> list[str]:
    """Return what one would type after ``luigi`` for a part."""
    days = [snapshot.processing_date.isoformat() for snapshot in part]
    task = ["IngestRange", "--first", min(days), "--last", max(days), "--window-days", str(part[0].window_days)]
    task += ["--networks", json.dumps(_networks(part))]
    options = {"--reverse": wanted.reverse, "--check-source": wanted.check_source}
    return [*task, *(option for option, chosen in options.items() if chosen)]


def _networks(snapshots: Sequence[Snapshot]) -> list[str]:
    return list(dict.fromkeys(snapshot.network for snapshot in snapshots))


def _exit_code(code: int, left: Sequence[RemainingSnapshot]) -> int:
    """Return luigi's exit code, unless what is left says more than it: days may have come or gone meanwhile."""
    if code not in _ENDED:
        return code
    if not left:
        return 0
    return exit_codes.MISSING if all(item.reason == NO_SNAPSHOT for item in left) else exit_codes.TASK_FAILED
