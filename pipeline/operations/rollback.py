"""Bring an older publication back to readers: its loads are published again, none is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loguru import logger

from pipeline.errors import RequestError, WarehouseError
from pipeline.graph.context import Context
from pipeline.snapshot import Snapshot
from pipeline.warehouse.ledger import HOST
from pipeline.warehouse.publications import Publication, publications_of
from pipeline.warehouse.publish import new_id, publish_after, require_rows


@dataclass(frozen=True)
class Rollback:
    """What a rollback would do."""

    snapshot: Snapshot
    past: Sequence[Publication]  #: all publications of the snapshot, the oldest first
    target: Publication  #: whose loads readers would see

    @property
    def seen(self) -> Publication:
        """What readers see now."""
        return self.past[-1]


def plan_rollback(context: Context, snapshot: Snapshot, to: str | None) -> Rollback:
    """Choose the publication with the id ``to``, else the one that the newest superseded.

    Raises RequestError when there is no such one, and WarehouseError when its rows are not all there any more.
    """
    warehouse = context.warehouse(snapshot.network)
    past = publications_of(warehouse, snapshot)
    target = _superseded(snapshot, past) if to is None else _named(snapshot, past, to)
    require_rows(warehouse, snapshot, target, hint=f"its loads were collected; choose another: {_listed(past)}")
    return Rollback(snapshot, past, target)


def roll_back(context: Context, chosen: Rollback) -> Publication:
    """Publish the loads of the target again. Raises WarehouseError when another publication came first."""
    warehouse, target = context.warehouse(chosen.snapshot.network), chosen.target
    wanted = replace(
        target, publication_id=new_id(warehouse), action="rollback", published_by=HOST, run_id=context.run_id
    )
    published = publish_after(warehouse, chosen.snapshot, wanted, after=chosen.seen)
    if published is None:
        raise WarehouseError(
            f"{chosen.snapshot}: another publication came first; nothing was rolled back",
            hint="look at sot-ingest status, then decide again",
        )
    logger.bind(
        **chosen.snapshot.log_fields,
        publication_id=published.publication_id,
        rolled_back_from=chosen.seen.publication_id,
        rolled_back_to=target.publication_id,
    ).info("Rolled back")
    return published


def _superseded(snapshot: Snapshot, past: Sequence[Publication]) -> Publication:
    if len(past) < 2:
        what = "has one publication, and nothing older" if past else "was never published"
        raise RequestError(f"{snapshot} {what}: nothing to roll back to", hint="sot-ingest status shows what there is")
    older = [publication for publication in past[:-1] if publication.action != "retire"]
    return older[-1]


def _named(snapshot: Snapshot, past: Sequence[Publication], to: str) -> Publication:
    found = next((publication for publication in past if publication.publication_id == to.lower()), None)
    if found is None:
        raise RequestError(f"{snapshot} has no publication {to}", hint=f"there are: {_listed(past) or 'none'}")
    if found.action == "retire":
        raise RequestError(f"publication {to} of {snapshot} shows readers nothing", hint=f"there are: {_listed(past)}")
    if found is past[-1] and not found.forgotten:  # after a rerun that failed it means: never mind
        raise RequestError(f"readers see publication {to} of {snapshot} already", hint=f"there are: {_listed(past)}")
    return found


def _listed(past: Sequence[Publication]) -> str:
    """Return ids and moments, the newest first, for a hint."""
    return ", ".join(f"{each.publication_id} ({each.published_at:%Y-%m-%d %H:%M} UTC)" for each in reversed(past))
