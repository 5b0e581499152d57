"""Retire a day: a publication that names no load, so that readers see no row of it and its loads can be removed."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse
from pipeline.warehouse.ledger import HOST
from pipeline.warehouse.publications import Publication, publications_of
from pipeline.warehouse.publish import new_id, publish_after


def retire_snapshot(warehouse: Warehouse, snapshot: Snapshot, *, run_id: str) -> bool:
    """Publish nothing upon what readers see; tell whether it was done. Raises WarehouseError.

    It was not when there is nothing to retire, or when another publication came first.
    """
    past = publications_of(warehouse, snapshot)
    if not past or past[-1].action == "retire":
        return False
    nothing = Publication(
        processing_date=snapshot.processing_date,
        window_days=snapshot.window_days,
        publication_id=new_id(warehouse),
        action="retire",
        manifest_sha256="",
        load_ids={},
        row_counts={},
        source="",
        published_at=datetime.now(UTC),
        published_by=HOST,
        run_id=run_id,
    )
    return publish_after(warehouse, snapshot, nothing, after=past[-1]) is not None
