"""The loads that a repair of other tables leaves published: their files are not needed again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from pipeline.graph.context import Context
from pipeline.snapshot import Snapshot
from pipeline.sources import missing_files
from pipeline.warehouse import ledger
from pipeline.warehouse.publish import newest_publication


def retained_loads(context: Context, snapshot: Snapshot, uri: str, sha256: str) -> dict[str, tuple[str, int]]:
    """Return ``(load_id, row count)`` by name of the tables that readers see as a manifest describes them.

    Only those whose load is proven still. None unless the newest publication is of the manifest: when upstream
    published another one since, all its files are needed. Raises WarehouseError.
    """
    warehouse = context.warehouse(snapshot.network)
    seen = newest_publication(warehouse, snapshot)
    if seen is None or not (seen.is_of(uri, sha256) or context.source.is_same(seen.source, uri)):
        return {}
    return ledger.proven_loads(warehouse, snapshot, seen.load_ids.values(), since=seen.published_at)


def is_ready(context: Context, snapshot: Snapshot, forgotten: Collection[str] = ()) -> bool:
    """Tell whether all is at the source that a run needs: a file that is not there must be of a retained load.

    ``forgotten`` names tables that are about to be loaded again. Raises SourceError, WarehouseError.
    """
    if context.source.is_ready(snapshot):
        return True
    text = context.source.peek(snapshot)
    if text is None or not text.data:
        return False
    retained = retained_loads(context, snapshot, text.uri, hashlib.sha256(text.data).hexdigest())
    return missing_files(context.source, snapshot, text).keys() <= retained.keys() - set(forgotten)
