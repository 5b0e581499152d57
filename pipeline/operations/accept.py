"""What audits hold of a snapshot, and whether it may be accepted as it was held."""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loguru import logger

from pipeline.errors import RequestError, SourceUnavailableError, did_you_mean
from pipeline.graph.context import Context
from pipeline.snapshot import Snapshot
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import AuditRow, accepted_audits, audit_rows
from pipeline.warehouse.ledger import HOST
from pipeline.warehouse.publications import Publication, newest_publication


@dataclass(frozen=True)
class HeldSnapshot:
    """Loads that audits hold, or that were accepted and are not published yet."""

    snapshot: Snapshot
    verdict: AuditRow  #: the newest about the snapshot
    holding: Sequence[AuditRow]  #: of the audits that hold it, what they found
    accepted: frozenset[str]  #: the audits that were accepted before

    @property
    def loads(self) -> dict[str, tuple[str, int]]:
        """Load and row count by table name."""
        return {name: (load_id, self.verdict.row_counts[name]) for name, load_id in self.verdict.load_ids.items()}

    def rows_accepting(self, names: Collection[str], reason: str, run_id: str) -> list[AuditRow]:
        """Return what is to be recorded when these audits are accepted; nothing when all were before."""
        by: dict[str, Any] = {"reason": reason, "user": user_name(), "host": HOST, "run_id": run_id}
        rows = [replace(row, outcome="accepted", **by) for row in self.holding if row.audit in names]
        left = [row.audit for row in self.holding if row.audit not in names]
        done = sorted({*self.accepted, *names})
        message = ", ".join(left or done)
        summary = replace(self.verdict, outcome="held" if left else "accepted", message=message, **by)
        return [*rows, summary] if rows else []


def user_name() -> str:
    """Return who runs this process, by the name that the system knows."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        return str(os.getuid())


def find_held(context: Context, snapshot: Snapshot) -> HeldSnapshot | AuditRow:
    """Return what is held, or the row that says that it was accepted and is published.

    Raises RequestError when nothing is held, or what was held is not what would be published today; SourceError
    and WarehouseError when that cannot be found out.
    """
    warehouse = context.warehouse(snapshot.network)
    rows = audit_rows(warehouse, snapshot)
    verdict = next((row for row in reversed(rows) if not row.audit), None)
    published = newest_publication(warehouse, snapshot)
    if verdict is None or verdict.outcome == "passed":
        raise RequestError(f"{snapshot}: no audit holds it", hint="sot-ingest status shows what is held")
    if published and published.published_at > verdict.recorded_at:
        if verdict.outcome == "accepted" and published.load_ids == verdict.load_ids:
            return verdict
        raise RequestError(
            f"{snapshot}: what was held is superseded by publication {published.publication_id} of "
            f"{published.published_at:%Y-%m-%d %H:%M} UTC; nothing was accepted",
            hint="sot-ingest status and history show what came since; a run audits what upstream has now",
        )
    mine = [row for row in rows if row.load_ids == verdict.load_ids]
    newest = {row.audit: row for row in mine if row.outcome == "held" and row.audit in verdict.names}
    holding = list(newest.values()) if verdict.outcome == "held" else []
    held = HeldSnapshot(snapshot, verdict, holding, frozenset(accepted_audits(mine, verdict.load_ids)))
    _require_same(context, held)
    return held


def _require_same(context: Context, held: HeldSnapshot) -> None:
    """Raise RequestError unless the loads are there, and are those of the manifest that upstream has.

    A source that does not answer right now does not stand in the way. Raises SourceError when it refuses us.
    """
    snapshot, verdict = held.snapshot, held.verdict
    warehouse = context.warehouse(snapshot.network)
    proven = ledger.proven_loads(warehouse, snapshot, verdict.load_ids, since=verdict.recorded_at)
    if gone := [name for name, load in held.loads.items() if proven.get(name) != load]:
        raise RequestError(
            f"{snapshot}: the held load of {', '.join(gone)} is not there any more, or is to be loaded again; nothing "
            "was accepted",
            hint=f"sot-ingest run {snapshot.options} loads and audits it again",
        )
    try:
        is_current = context.source.is_current(snapshot, {verdict.source: verdict.manifest_sha256})
        is_withdrawn = is_current and context.source.peek(snapshot) is None
    except SourceUnavailableError as error:
        logger.bind(hint=error.hint).warning("Could not ask whether upstream published the snapshot again: {}", error)
        return
    if not is_current:
        raise RequestError(
            f"{snapshot}: upstream has published another manifest since the one that is held ({verdict.source}); "
            "nothing was accepted",
            hint=f"sot-ingest run {snapshot.options} loads and audits what upstream has now",
        )
    if is_withdrawn:
        raise RequestError(
            f"{snapshot}: upstream has withdrawn what is held: {verdict.source} is not there any more, nor another "
            "manifest; nothing was accepted",
            hint="ask upstream; when it publishes the snapshot again, a run audits it",
        )


def chosen_audits(held: HeldSnapshot, named: Sequence[str]) -> list[str]:
    """Return the audits to accept: those that are named, else all that hold. Raises RequestError for any other."""
    holding = [row.audit for row in held.holding]
    for name in named:
        if name not in holding and name not in held.accepted:
            raise RequestError(
                f"--audit {name}: does not hold {held.snapshot} {did_you_mean(name, holding)}",
                hint="name an audit that holds it, or none to accept all of them; nothing was accepted",
            )
    return [name for name in holding if not named or name in named]


def was_accepted(verdict: AuditRow) -> str:
    """Return for people who accepted a snapshot, when and why."""
    return f"accepted by {verdict.user} on {verdict.host}, {verdict.recorded_at:%Y-%m-%d %H:%M} UTC: {verdict.reason}"


def published_after(verdict: AuditRow, published: Publication) -> RequestError:
    """Return the error for a publication that came first."""
    return RequestError(
        f"accepted, and not published: publication {published.publication_id} came first",
        hint=f"it is of {published.source}, and the accepted one of {verdict.source}: see sot-ingest history",
    )
