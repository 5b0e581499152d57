"""Audits of the loads that are about to be published: asked, judged and recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from loguru import logger

from pipeline.audits import HINT, Audit
from pipeline.audits.runner import DAYS, MOST, AuditResult, Candidate, ask_audits, find_mistakes
from pipeline.errors import ConfigError, HeldError, WarehouseError
from pipeline.graph import steps
from pipeline.graph.context import Context
from pipeline.graph.retained import rows_of_audits
from pipeline.snapshot import Snapshot
from pipeline.warehouse.audit_log import AuditRow, Outcome, accepted_audits, record_audits
from pipeline.warehouse.nearest import nearest_days

TOLD = 3  #: rows of an audit's answer that its line of the log tells
LONGEST = 4_000  #: characters of what is recorded of an audit


def audit_snapshot(context: Context, snapshot: Snapshot) -> steps.Facts:
    """Ask the audits about the loads that are about to be published, and record what they find.

    Raises HeldError when one of them holds the snapshot and was not accepted for exactly these loads.
    """
    warehouse = context.warehouse(snapshot.network)
    manifest = steps.manifest_on_disk(context.workspace(snapshot))
    candidate = candidate_of(context, snapshot, steps.proven_loads(context, snapshot))
    accepted = accepted_audits(rows_of_audits(context, snapshot), candidate.load_ids)
    results = list(ask_audits(warehouse, candidate, context.audits.chosen(snapshot.network)))
    found: dict[Outcome, list[AuditResult]] = {"passed": [], "accepted": [], "warned": [], "held": []}
    for result in results:
        found[outcome_of(result, accepted)].append(result)
    summary = AuditRow(
        audit="",
        level="",
        outcome="held" if found["held"] else "passed",
        message=", ".join(result.name for result in found["held"]),
        compared_with=candidate.dates,
        load_ids=candidate.load_ids,
        row_counts=candidate.row_counts,
        manifest_sha256=manifest.sha256,
        source=manifest.uri,
        run_id=context.run_id,
    )
    rows = [_row(summary, result, outcome) for outcome, results in found.items() for result in results]
    record_audits(warehouse, snapshot, [*rows, summary])
    for result in found["warned"]:
        logger.warning("Audit {} warns: {}", result.name, found_by(result))
    if found["held"]:
        lines = [
            f"held by {result.name}: {found_by(result)}{_comparison(result.chosen.audit, candidate.dates)}"
            for result in found["held"]
        ]
        raise HeldError(*lines, hint=hint_to_accept(snapshot))
    return {
        "audits": len(rows),
        **{outcome: [result.name for result in found[outcome]] for outcome in ("warned", "accepted") if found[outcome]},
        "compared_with": compared_days(candidate.dates),
    }


def candidate_of(context: Context, snapshot: Snapshot, loads: Mapping[str, tuple[str, int]]) -> Candidate:
    """Return loads, ``(load_id, row count)`` by table name, with the days that they are compared with.

    Raises WarehouseError.
    """
    days = nearest_days(context.warehouse(snapshot.network), snapshot, DAYS)
    ids, counts = {name: id_ for name, (id_, _) in loads.items()}, {name: rows for name, (_, rows) in loads.items()}
    return Candidate(snapshot, ids, counts, days)


def outcome_of(result: AuditResult, accepted: set[str]) -> Outcome:
    """Return what comes of an audit's answer."""
    if not result.wrong:
        return "passed"
    if result.chosen.level == "warn":
        return "warned"
    return "accepted" if result.name in accepted else "held"


def found_by(result: AuditResult) -> str:
    """Return what an audit found wrong, in its words."""
    messages = result.messages
    more, least = len(messages) - TOLD, "at least " if len(messages) == MOST else ""
    return "; ".join([*messages[:TOLD], *([f"and {least}{more} more"] if more > 0 else [])])


def compared_days(days: Sequence[str]) -> str:
    """Return for people what a snapshot is compared with."""
    if not days:
        return "nothing, for no other day is published"
    return days[0] if len(days) == 1 else f"{len(days)} days from {min(days)} to {max(days)}"


def _comparison(audit: Audit, days: Sequence[str]) -> str:
    """Return for people which of the days an audit reads, the nearest first; nothing of one that reads none."""
    if not audit.compares:
        return ""
    return f"; compared with {compared_days(days[:1] if audit.compares == 'nearest' else days)}"


def hint_to_accept(snapshot: Snapshot) -> str:
    """Return what can be done about a snapshot that is held."""
    accept = f"sot-ingest accept {snapshot.options} --reason '…'"
    return f"readers see what they saw; if it is right, {accept} publishes it; else ask upstream to publish it again"


def _row(summary: AuditRow, result: AuditResult, outcome: Outcome) -> AuditRow:
    """Return what is recorded of one audit."""
    figures = list(result.figures)
    while len(text := json.dumps(figures)) > LONGEST:
        figures.pop()
    return replace(
        summary,
        audit=result.name,
        level=result.chosen.level,
        outcome=outcome,
        message=found_by(result)[:LONGEST],
        figures=text,
        parameters=json.dumps(dict(result.chosen.parameters)),
    )


def require_right_audits(context: Context, networks: Sequence[str]) -> None:
    """Raise ConfigError that lists what is wrong with audits' files, one a line: also what ClickHouse finds.

    It is asked about what the operator wrote: audits of their own, and changed parameters of packaged ones. What the
    warehouse does not answer, the steps tell.
    """
    mistakes = list(context.audits.mistakes)
    try:
        for network in networks:
            if chosen := context.audits.chosen_by_operator(network):
                mistakes += find_mistakes(context.warehouse(network), chosen)
    except WarehouseError as error:
        logger.debug("Could not ask ClickHouse about the audits of INGESTION_AUDITS_PATH: {}", error)
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)), hint=HINT)
