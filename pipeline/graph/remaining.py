"""Which snapshots of a range of days are not published yet: one query a network, however many days there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipeline.dates import days_between
from pipeline.graph.context import Context
from pipeline.graph.retained import lacks_files
from pipeline.graph.walk import pending_steps
from pipeline.snapshot import Snapshot
from pipeline.warehouse.audit_log import held_snapshots
from pipeline.warehouse.publications import Publication, effective_publications, publications_by_date

NO_SNAPSHOT, HELD, FAILED, UNFINISHED = "not at the source", "held by an audit", "failed", "not finished"


@dataclass(frozen=True)
class RemainingSnapshot:
    """A snapshot that a backfill left unpublished."""

    snapshot: Snapshot
    reason: str
    step: str  #: the step that the next run starts with

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            **self.snapshot.as_dict(),
            "reason": self.reason,
            "step": self.step,
        }


def snapshots_in_range(networks: Iterable[str], first: date, last: date, window_days: int) -> list[Snapshot]:
    """Return the snapshots of all networks and days from ``first`` to ``last``, the oldest day first."""
    days = days_between(first, last)
    return [Snapshot(network, day, window_days) for day in days for network in dict.fromkeys(networks)]


def up_to_date(shared: Context, snapshots: Iterable[Snapshot]) -> dict[Snapshot, list[Publication]]:
    """Return those that left nothing to do here, with the publications that settled them; one query a network.

    The source is not asked whether upstream has published a snapshot again since. Raises WarehouseError.
    """
    groups: dict[tuple[str, int], list[Snapshot]] = defaultdict(list)
    for snapshot in snapshots:
        groups[snapshot.network, snapshot.window_days].append(snapshot)
    found: dict[Snapshot, list[Publication]] = {}
    for (network, window_days), group in groups.items():
        days = [snapshot.processing_date for snapshot in group]
        past = publications_by_date(shared.warehouse(network), min(days), max(days), window_days, sync=True)
        for snapshot in group:
            published = effective_publications(past.get(snapshot.processing_date, []), shared.settings.table_names)
            if published and not shared.workspace(snapshot).path.exists():
                found[snapshot] = published
    return found


def remaining_snapshots(shared: Context, snapshots: Sequence[Snapshot], *, check_source: bool) -> list[Snapshot]:
    """Return those that a run has something to do for, in the order given.

    With ``check_source`` also those that upstream published again: one request for each that is published. Raises
    WarehouseError, and SourceError when the source is asked.
    """
    published = up_to_date(shared, snapshots)
    return [
        snapshot
        for snapshot in snapshots
        if snapshot not in published or (check_source and not _is_current(shared, snapshot, published[snapshot]))
    ]


def _is_current(shared: Context, snapshot: Snapshot, published: Sequence[Publication]) -> bool:
    """Ask the source whether it holds nothing newer than what was published."""
    known = {publication.source: publication.manifest_sha256 for publication in published}
    return shared.source.is_current(snapshot, known)


def _is_held(shared: Context, snapshot: Snapshot) -> bool:
    day = snapshot.processing_date
    return bool(held_snapshots(shared.warehouse(snapshot.network), snapshot.network, day, day, snapshot.window_days))


def explain_remaining(shared: Context, snapshots: Iterable[Snapshot], *, ended: bool) -> list[RemainingSnapshot]:
    """Tell why each is not published after a run, which ``ended`` by itself or not. Raises SourceError."""
    left = []
    for snapshot in snapshots:
        found = shared.source.peek(snapshot)
        if found is None or lacks_files(shared, snapshot, found):
            left.append(RemainingSnapshot(snapshot, NO_SNAPSHOT, "FindSnapshot"))
            continue
        step = next(map(str, pending_steps(snapshot)), "")
        reason = HELD if step == "AuditSnapshot" and _is_held(shared, snapshot) else FAILED
        left.append(RemainingSnapshot(snapshot, reason if ended else UNFINISHED, step))
    return left
