"""What is published, rolled back, held, half done or missing: networks × days."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from pipeline.dates import last_days
from pipeline.errors import SourceError
from pipeline.graph.context import Context, get_context
from pipeline.graph.walk import pending_steps
from pipeline.operations.replicas import hosts_behind
from pipeline.snapshot import Snapshot
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import AuditRow, is_held, newest_verdicts
from pipeline.warehouse.publications import Publication, publications_by_date
from pipeline.warehouse.whole import require_all_rows


@dataclass(frozen=True)
class Status:
    """One network's day."""

    snapshot: Snapshot
    state: str  #: published, rolled back, retired, held, half done or missing
    step: str | None  #: the step that a rerun starts with, when half done or held; with the audits that hold
    publication: Publication | None  #: what readers see
    behind: tuple[str, ...] = ()  #: replicas that show something else, each with what

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        seen = self.publication
        return {
            **self.snapshot.as_dict(),
            "state": self.state,
            "step": self.step,
            "rows": dict(seen.row_counts) if seen else None,
            "publication_id": seen.publication_id if seen else None,
            "action": seen.action if seen else None,
            "published_at": seen.published_at.isoformat() if seen else None,
            "manifest_sha256": seen.manifest_sha256 if seen else None,
            "source": seen.source if seen else None,
            "behind": list(self.behind),
        }


def collect(networks: Iterable[str], *, days: int, last: date, window_days: int) -> list[Status]:
    """Return the status of each network and of ``days`` days up to ``last``, the newest first.

    Three queries a network, and what the targets of days that are half done ask. Raises WarehouseError, also when rows
    are hidden that would say another thing.
    """
    shared = get_context()
    wanted = last_days(days, last)
    found = []
    for network in networks:
        require_all_rows(shared.warehouse(network))
        seen = {
            day: past[-1]
            for day, past in publications_by_date(shared.warehouse(network), wanted[0], last, window_days).items()
        }
        behind = hosts_behind(shared.warehouse(network), network, wanted[0], last, window_days)
        begun = ledger.attempted_dates(shared.warehouse(network), wanted[0], last, window_days)
        verdicts = newest_verdicts(shared.warehouse(network), network, wanted[0], last)
        for day in reversed(wanted):
            snapshot = Snapshot(network, day, window_days)
            status = status_of(shared, snapshot, seen.get(day), verdicts.get(snapshot), begun=day in begun)
            found.append(replace(status, behind=tuple(map(str, behind.get(day, ())))))
    return found


def status_of(
    shared: Context,
    snapshot: Snapshot,
    publication: Publication | None,
    verdict: AuditRow | None,
    *,
    begun: bool,
    next_step: bool = True,
) -> Status:
    """Tell the state from what is published, audited and begun: in a work directory here, or in the ledger.

    Which step is the next is asked of the targets, and so of the source; without ``next_step`` nothing is asked.
    """
    if verdict is not None and is_held(verdict, publication.published_at if publication else None):
        return Status(snapshot, "held", f"AuditSnapshot {verdict.message}", publication)
    if publication and publication.action == "retire":
        return Status(snapshot, "retired", None, None)
    tables = shared.settings.table_names
    is_unfinished = (publication.forgotten or not publication.covers(tables)) if publication else begun
    if is_unfinished or shared.workspace(snapshot).path.exists():
        return Status(snapshot, "half done", _next_step(snapshot) if next_step else None, publication)
    if publication is None:
        return Status(snapshot, "missing", None, None)
    state = "rolled back" if publication.action == "rollback" else "published"
    return Status(snapshot, state, None, publication)


def _next_step(snapshot: Snapshot) -> str | None:
    """Return what a run would start with: with asking the source where that does not answer."""
    try:
        return next(map(str, pending_steps(snapshot)), None)
    except SourceError:
        return "FindSnapshot"
