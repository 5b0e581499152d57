"""One run: the graph for some snapshots, its progress shown, its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from loguru import logger
from rich.console import Console

import pipeline.tasks  # noqa: F401  # the graph that luigi is asked for by name
from pipeline import display, ending, journal, process, scheduler, steps
from pipeline.context import Context, context
from pipeline.snapshot import Snapshot


def ingest(
    snapshots: Sequence[Snapshot], *, workers: int | None, local_scheduler: bool, anew: tuple[str, ...] = ()
) -> int:
    """Bring the snapshots, all of one date and window, into the warehouse; return the exit code.

    Tables named in ``anew`` are loaded whether or not that is proven. Raises Interrupted.
    """
    return ending.carried_out(lambda: _ingest(snapshots, workers=workers, local_scheduler=local_scheduler, anew=anew))


def _ingest(snapshots: Sequence[Snapshot], *, workers: int | None, local_scheduler: bool, anew: tuple[str, ...]) -> int:
    shared = context()
    for snapshot in snapshots:
        journal.ask(snapshot)
    if not is_scheduler_there(local_scheduler=local_scheduler):
        return process.EXIT_LUIGI
    if anew:
        for snapshot in snapshots:
            if not _forget(shared, snapshot, anew):
                return process.EXIT_MISSING
    networks = [snapshot.network for snapshot in snapshots]
    task = ["IngestDaily", "--processing-date", snapshots[0].processing_date.isoformat()]
    task += ["--window-days", str(snapshots[0].window_days), "--networks", json.dumps(networks)]
    code = run_task(shared, task, workers, local_scheduler=local_scheduler)
    say_outcome(code, date=snapshots[0].processing_date.isoformat(), networks=",".join(networks))
    return code


def _forget(shared: Context, snapshot: Snapshot, tables: tuple[str, ...]) -> bool:
    """Take the proofs of these tables back, unless there is nothing at the source to prove them by."""
    event = logger.bind(
        network=snapshot.network, date=snapshot.processing_date.isoformat(), window=snapshot.window_days
    )
    if not shared.source.is_ready(snapshot):
        what, why = shared.source.absence(snapshot)
        event.bind(hint=f"nothing was forgotten; {why}").error("Found no {} at {}", what, shared.source.uri)
        return False
    steps.forget(shared, snapshot, tables)
    event.bind(tables=",".join(tables)).info("Forgot the proofs")
    return True


def run_task(shared: Context, task: Sequence[str], workers: int | None, *, local_scheduler: bool) -> int:
    """Run a task, given as one would type it after ``luigi``, and show its progress; return luigi's exit code."""
    if shared.is_embedded and workers not in {None, 1}:
        logger.warning("Embedded ClickHouse belongs to one process: running one step at a time")
    name, *options = task
    arguments = [name, "--module", "pipeline.tasks", *options]
    arguments += ["--workers", "1" if shared.is_embedded else str(workers or 2)]
    arguments += ["--local-scheduler"] if local_scheduler else []
    with display.bars(shared.settings, Console(stderr=True)):
        return process.run_luigi(arguments)


def is_scheduler_there(*, local_scheduler: bool) -> bool:
    """Tell whether a run could be scheduled, and say so when luigid is needed and does not answer."""
    if problem := None if local_scheduler else scheduler.problem():
        hint = "start luigid, or add --local-scheduler"
        logger.bind(hint=hint).error("{}", problem)
        journal.explain(problem, hint)
    return problem is None


def say_outcome(code: int, **facts: Any) -> None:
    """Log how the run ended, on one line."""
    level = "INFO" if code == 0 else "ERROR"
    logger.bind(**facts, exit_code=code).log(level, "Run ended: {}", process.EXIT_CODES.get(code, "unknown"))
    sys.stderr.flush()
