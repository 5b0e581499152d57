"""One run: the graph for some snapshots, its progress shown, its exit code."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from loguru import logger

from pipeline import exit_codes
from pipeline.errors import PipelineError, WarehouseError
from pipeline.graph import step_records, steps
from pipeline.graph.context import QUICK_SECONDS, Context, get_context
from pipeline.graph.luigid import Scheduler
from pipeline.graph.retained import wait_until_ready
from pipeline.graph.targets import PublishedSnapshot
from pipeline.runs import display, lifecycle, process
from pipeline.snapshot import Snapshot
from pipeline.tasks import IngestSnapshot
from pipeline.warehouse.publications import newest_publication

#: Seconds between two looks for snapshots that are not there yet, and what chance adds to them at the most.
LOOK_SECONDS, LOOK_JITTER = 45.0, 15.0

#: How many networks luigi is given at once: what to do next it looks up among the steps of all, in 8 ms of 100 networks
#: and in 195 ms of 1,000. luigid knows those that were given before, too, which take 4 ms a hundred until it forgets
#: them: 20 ms with three hundred.
NETWORKS_AT_ONCE = 100


def ingest_snapshots(
    snapshots: Sequence[Snapshot],
    *,
    workers: int | None = None,
    scheduler: Scheduler = "auto",
    force_tables: tuple[str, ...] = (),
    wait: float = 0,
) -> int:
    """Bring the snapshots, all of one date and window, into the warehouse; return the exit code.

    Tables named in ``force_tables`` are loaded whether or not that is proven. ``wait`` is how many seconds to wait for
    snapshots that are not at the source.
    """
    networks = [snapshot.network for snapshot in snapshots]
    facts = {"date": snapshots[0].processing_date.isoformat(), "networks": networks}
    return lifecycle.run_with_lifecycle(lambda: _ingest(snapshots, workers, scheduler, force_tables, wait), facts)


def _ingest(
    snapshots: Sequence[Snapshot], workers: int | None, scheduler: Scheduler, force_tables: tuple[str, ...], wait: float
) -> int:
    shared = get_context()
    for snapshot in snapshots:
        step_records.add_requested(snapshot)
    with ExitStack() as stack, display.shown(shared.settings, len(snapshots)):
        free, code = _lock_snapshots(shared, snapshots, stack, claim=bool(force_tables))
        if force_tables and (failed := max((_forget(shared, each, force_tables) for each in free), default=0)):
            return max(code, failed)
        return max(code, _ingest_as_they_come(shared, free, workers, scheduler, wait))


def _lock_snapshots(
    shared: Context, snapshots: Sequence[Snapshot], stack: ExitStack, *, claim: bool
) -> tuple[list[Snapshot], int]:
    """Return the snapshots that no other run is at work on, and the exit code for the others.

    Other runs of this deployment are kept from them, with ``claim`` those of others too, before the first step.
    """
    stack.callback(shared.ownership.release, *snapshots)
    codes = {each: lock_snapshot(shared, each, claim=claim) for each in snapshots}
    return [each for each, code in codes.items() if not code], max(codes.values())


def lock_snapshot(shared: Context, snapshot: Snapshot, *, claim: bool) -> int:
    """Return 0 when the snapshot is this run's alone, else the exit code; an error is told as a step's."""
    own = shared.ownership
    try:
        with _step(snapshot).report_errors("Could not lock and claim the snapshot"):
            is_own = own.lock(snapshot) and (not claim or own.claim(snapshot))
    except PipelineError:
        step_records.set_standing(snapshot, "unknown")
        return exit_codes.UNKNOWN
    if not is_own:
        step_records.set_standing(snapshot, "left")
    return 0 if is_own else exit_codes.ALREADY_RUNNING


def _step(snapshot: Snapshot) -> IngestSnapshot:
    """Return the task that errors before the first step are told of."""
    day, window_days = snapshot.processing_date, snapshot.window_days
    return IngestSnapshot(network=snapshot.network, processing_date=day, window_days=window_days)


def _forget(shared: Context, snapshot: Snapshot, tables: tuple[str, ...]) -> int:
    """Take the proofs of these tables back, unless there is nothing at the source to prove them by.

    Returns 0 or the exit code.
    """
    step, code = _step(snapshot), exit_codes.UNKNOWN
    try:
        with step.report_errors("Could not tell whether the snapshot is at the source"):
            why = None if wait_until_ready(shared, snapshot, tables) else shared.source.absence(snapshot)
        if why:
            event = logger.bind(**snapshot.log_fields, hint=f"nothing was forgotten; {why[1]}")
            event.error("Found no {} at {}", why[0], shared.source.uri)
            return exit_codes.MISSING
        code = exit_codes.TASK_FAILED
        with step.report_errors("Could not forget the proofs"):
            steps.forget(shared, snapshot, tables)
    except PipelineError as error:
        if error.transient:
            code = exit_codes.UNKNOWN
        if code == exit_codes.UNKNOWN:
            step_records.set_standing(snapshot, "unknown")
        return code
    logger.bind(**snapshot.log_fields, tables=",".join(tables)).info("Forgot the proofs")
    return 0


def _ingest_as_they_come(
    shared: Context, snapshots: Sequence[Snapshot], workers: int | None, scheduler: Scheduler, wait: float
) -> int:
    """Ingest what is at the source, then what comes in time, and in the end say what did not; return the exit code."""
    code, end, is_logged = 0, time.monotonic() + wait, False
    while snapshots:
        left = end - time.monotonic()
        late = [snapshot for snapshot in snapshots if left > 0 and _is_missing(shared, snapshot)]
        ready = [snapshot for snapshot in snapshots if snapshot not in late]
        for at in range(0, len(ready), NETWORKS_AT_ONCE):
            code = max(code, run_task(shared, _task(ready[at : at + NETWORKS_AT_ONCE]), workers, scheduler))
        if late:
            if not is_logged:
                networks = ",".join(snapshot.network for snapshot in late)
                logger.bind(networks=networks, seconds=round(left)).info("Waiting for snapshots to be published")
                is_logged = True
            time.sleep(max(0.0, min(end - time.monotonic(), LOOK_SECONDS + random.uniform(0, LOOK_JITTER))))  # noqa: S311  # so that hosts do not look at once
        snapshots = late
    return code


def _is_missing(shared: Context, snapshot: Snapshot) -> bool:
    """Tell whether there is nothing to do but to wait; what does not answer is for the steps to tell."""
    try:
        return not wait_until_ready(shared, snapshot) and not PublishedSnapshot(shared, snapshot).exists()
    except PipelineError:
        return False


def _task(snapshots: Sequence[Snapshot]) -> list[str]:
    """Return what one would type after ``luigi`` for the same snapshots."""
    first, networks = snapshots[0], [snapshot.network for snapshot in snapshots]
    task = ["IngestDaily", "--processing-date", first.processing_date.isoformat()]
    return [*task, "--window-days", str(first.window_days), "--networks", json.dumps(networks)]


def run_task(shared: Context, task: Sequence[str], workers: int | None, scheduler: Scheduler) -> int:
    """Run a task, given as one would type it after ``luigi``; return luigi's exit code. Raises Interrupted."""
    if shared.is_embedded and workers not in {None, 1}:
        logger.warning("Embedded ClickHouse belongs to one process: running one step at a time")
    name, *options = task
    arguments = [name, "--module", "pipeline.tasks", *options]
    return process.run_scheduled([*arguments, "--workers", "1" if shared.is_embedded else str(workers or 2)], scheduler)


def result_of(code: int, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """Return how a run ended, as JSON knows it, with what readers see now; None where the warehouse does not tell."""
    return {
        "exit_code": code,
        "meaning": exit_codes.MEANINGS.get(code, "unknown"),
        "snapshots": [_seen(snapshot) for snapshot in snapshots],
    }


def _seen(snapshot: Snapshot) -> dict[str, Any]:
    try:
        seen = newest_publication(get_context().warehouse(snapshot.network, timeout=QUICK_SECONDS), snapshot)
    except WarehouseError:
        seen = None
    return {
        **snapshot.as_dict(),
        "publication_id": seen.publication_id if seen else None,
        "published_at": seen.published_at.isoformat() if seen else None,
        "rows": dict(seen.row_counts) if seen else None,
    }
