"""Accept what audits hold: record who did so and why, then publish exactly what was held; a run of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from loguru import logger

from pipeline import exit_codes
from pipeline.errors import HeldError, PipelineError, SourceError, WarehouseError
from pipeline.graph import step_records, steps
from pipeline.graph.auditing import hint_to_accept
from pipeline.graph.base import StepTask
from pipeline.graph.context import Context, get_context
from pipeline.operations.accept import (
    HeldSnapshot,
    chosen_audits,
    find_held,
    published_after,
    was_accepted,
)
from pipeline.runs import lifecycle
from pipeline.runs.ingest import lock_snapshot
from pipeline.snapshot import Snapshot
from pipeline.tasks import AuditSnapshot, CleanUp, PublishSnapshot
from pipeline.warehouse.audit_log import AuditRow, record_audits
from pipeline.warehouse.publications import Publication, newest_publication
from pipeline.warehouse.publish import publish_loads


@dataclass(frozen=True)
class Wanted:
    """What an operator accepts."""

    snapshot: Snapshot
    audits: Sequence[str]  #: none: all that hold it
    reason: str


@dataclass
class Accepted:
    """What came of it."""

    exit_code: int = 0
    before: str = ""  #: who accepted it earlier, when and why
    audits: Sequence[str] = ()  #: accepted now
    publication: Publication | None = None  #: what readers see, when it is what was held


def accept_snapshot(wanted: Wanted) -> Accepted:
    """Accept, and publish unless another audit still holds; return what came of it."""
    accepted = Accepted()
    snapshot = wanted.snapshot
    facts: dict[str, Any] = {"date": snapshot.processing_date.isoformat(), "networks": [snapshot.network]}
    accepted.exit_code = lifecycle.run_with_lifecycle(lambda: _accept(get_context(), wanted, accepted), facts)
    return accepted


def _accept(shared: Context, wanted: Wanted, accepted: Accepted) -> int:
    snapshot = wanted.snapshot
    with ExitStack() as stack:
        stack.callback(shared.ownership.release, snapshot)
        if code := lock_snapshot(shared, snapshot, claim=True):
            return code
        try:
            held = find_held(shared, snapshot)
        except (SourceError, WarehouseError) as error:
            step_records.set_cause(str(error), error.hint)
            lifecycle.log_error(error)
            return exit_codes.UNKNOWN
        if isinstance(held, AuditRow):
            accepted.before = was_accepted(held)
            accepted.publication = newest_publication(shared.warehouse(snapshot.network), snapshot)
            return 0
        names = chosen_audits(held, wanted.audits)
        step_records.add_requested(snapshot)
        try:
            _record(shared, held, names, wanted.reason)
            accepted.audits = names
            accepted.publication = _publish(shared, held)
            _clean_up(shared, held)
        except HeldError:  # by others; these were recorded
            accepted.audits = names
            return exit_codes.TASK_FAILED
        except PipelineError as error:  # it was reported as a step's
            return exit_codes.UNKNOWN if error.transient else exit_codes.TASK_FAILED
    return 0


def _step(kind: type[StepTask], snapshot: Snapshot) -> StepTask:
    return kind(network=snapshot.network, processing_date=snapshot.processing_date, window_days=snapshot.window_days)


def _record(shared: Context, held: HeldSnapshot, names: Sequence[str], reason: str) -> None:
    """Record who accepts which audits. Raises HeldError when others still hold the snapshot."""
    step, started = _step(AuditSnapshot, held.snapshot), time.monotonic()
    with step.report_errors("Step failed"):
        rows = held.rows_accepting(names, reason, shared.run_id)
        if rows:
            record_audits(shared.warehouse(held.snapshot.network), held.snapshot, rows)
            logger.bind(audits=list(names), reason=reason, user=rows[-1].user).info("Accepted what audits hold")
        left = [f"held by {row.audit}: {row.message}" for row in held.holding if row.audit not in names]
        if left:
            raise HeldError(*left, hint=hint_to_accept(held.snapshot))
        facts: steps.Facts = {"accepted": list(names), "reason": reason, "user": rows[-1].user} if rows else {}
        step.record("done", started, facts=facts)


def _publish(shared: Context, held: HeldSnapshot) -> Publication:
    """Publish what was held. Raises RequestError when another publication came first."""
    step, started, verdict = _step(PublishSnapshot, held.snapshot), time.monotonic(), held.verdict
    with step.report_errors("Step failed"):
        publication = publish_loads(
            shared.warehouse(held.snapshot.network),
            held.snapshot,
            manifest_sha256=verdict.manifest_sha256,
            source=verdict.source,
            loads=held.loads,
            run_id=shared.run_id,
            is_upstreams=lambda uri, sha256: steps.is_upstreams(shared, held.snapshot, uri, sha256),
        )
        if publication.load_ids != verdict.load_ids:
            raise published_after(verdict, publication)
        facts = steps.publication_facts(shared, publication)
        logger.bind(**facts).info(step.done)
        step.record("done", started, facts=facts)
    return publication


def _clean_up(shared: Context, held: HeldSnapshot) -> None:
    """Remove the work files of what was held, if this is the host that has them."""
    on_disk = shared.workspace(held.snapshot).downloaded_manifest()
    if on_disk is None or on_disk.sha256 != held.verdict.manifest_sha256:
        return
    step, started = _step(CleanUp, held.snapshot), time.monotonic()
    with step.report_errors("Step failed"):
        facts = steps.clean_up(shared, held.snapshot)
        logger.bind(**facts).info(step.done)
        step.record("done", started, facts=facts)
