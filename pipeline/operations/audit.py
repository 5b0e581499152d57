"""The audits of a day asked once more: of what is published, held or loaded. Nothing is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.audits.runner import AuditResult, Candidate, ask_audits
from pipeline.graph.auditing import candidate_of, found_by, outcome_of
from pipeline.graph.context import Context
from pipeline.graph.retained import loads_to_publish
from pipeline.snapshot import Snapshot
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import AuditRow, Outcome, accepted_audits, audit_rows, awaits_publication
from pipeline.warehouse.publications import newest_publication

Loads = dict[str, tuple[str, int]]


@dataclass(frozen=True)
class Audited:
    """What the audits find in a snapshot."""

    candidate: Candidate
    state: str  #: published, held, or loaded and not published
    results: Sequence[tuple[AuditResult, Outcome]]

    @property
    def is_wrong(self) -> bool:
        """Whether something is wrong that nobody accepted."""
        return any(outcome in {"warned", "held"} for _, outcome in self.results)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            **self.candidate.snapshot.as_dict(),
            "state": self.state,
            "rows": dict(self.candidate.row_counts),
            "compared_with": self.candidate.dates,
            "audits": [_as_dict(result, outcome) for result, outcome in self.results],
        }


def _as_dict(result: AuditResult, outcome: Outcome) -> dict[str, Any]:
    return {
        "audit": result.name,
        "level": result.chosen.level,
        "outcome": outcome,
        "message": found_by(result),
        "parameters": dict(result.chosen.parameters),
        "figures": result.figures,
    }


def ask_again(context: Context, snapshot: Snapshot) -> Audited | None:
    """Return what the audits find, or None where nothing of the snapshot is loaded. Raises WarehouseError."""
    rows = audit_rows(context.warehouse(snapshot.network), snapshot)
    state, loads = _loads_of(context, snapshot, next((row for row in reversed(rows) if not row.audit), None))
    if not loads:
        return None
    candidate = candidate_of(context, snapshot, loads)
    accepted = accepted_audits(rows, candidate.load_ids)
    asked = ask_audits(context.warehouse(snapshot.network), candidate, context.audits.chosen(snapshot.network))
    return Audited(candidate, state, [(result, outcome_of(result, accepted)) for result in asked])


def _loads_of(context: Context, snapshot: Snapshot, verdict: AuditRow | None) -> tuple[str, Loads]:
    """Return the newest loads and what became of them: of the work directory here, audited anywhere, or published."""
    warehouse = context.warehouse(snapshot.network)
    seen = newest_publication(warehouse, snapshot)
    published = {name: (load_id, seen.row_counts[name]) for name, load_id in seen.load_ids.items()} if seen else {}
    if verdict and awaits_publication(verdict, seen.published_at if seen else None):
        audited = ledger.proven_loads(warehouse, snapshot, verdict.load_ids, since=verdict.recorded_at)
        if audited.keys() == verdict.load_ids.keys():
            return "held" if verdict.outcome == "held" else "loaded", audited
    loaded = loads_to_publish(context, snapshot)
    if loaded.keys() >= set(context.settings.table_names) and loaded != published:
        return "loaded", loaded
    return "published", published
