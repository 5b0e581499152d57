"""The loads that a repair of other tables leaves published: their files are not needed again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from pipeline.graph.context import Context
from pipeline.snapshot import Snapshot
from pipeline.sources import ManifestText, missing_files
from pipeline.warehouse import ledger


def retained_loads(context: Context, snapshot: Snapshot, uri: str, sha256: str) -> dict[str, tuple[str, int]]:
    """Return ``(load_id, row count)`` by name of the tables that readers see as a manifest describes them.

    Only those whose load is proven still. None unless the newest publication is of the manifest: when upstream
    published another one since, all its files are needed. Raises WarehouseError.
    """
    seen = next(iter(context.publications(snapshot)[-1:]), None)
    if seen is None or not (seen.is_of(uri, sha256) or context.source.is_same(seen.source, uri)):
        return {}
    return ledger.proven_loads(
        context.warehouse(snapshot.network), snapshot, seen.load_ids.values(), since=seen.published_at
    )


def loads_to_publish(context: Context, snapshot: Snapshot) -> dict[str, tuple[str, int]]:
    """Return ``(load_id, row count)`` by name of the tables that have a load to be published with the manifest on disk.

    That is the published one, where it is retained, else the one of the file on disk. Raises WarehouseError.
    """
    workspace = context.workspace(snapshot)
    if (manifest := workspace.downloaded_manifest()) is None:
        return {}
    retained = retained_loads(context, snapshot, manifest.uri, manifest.sha256)
    wanted = [table for table in workspace.tables if table.name not in retained]
    files = {table.name: file.sha256 for table in wanted if (file := workspace.downloaded_file(table))}
    return {**ledger.find_proven_loads(context.warehouse(snapshot.network), snapshot, files), **retained}


def lacks_files(context: Context, snapshot: Snapshot, text: ManifestText, forgotten: Collection[str] = ()) -> bool:
    """Tell whether a file is not at the source that the manifest lists and a run needs: one of no retained load.

    ``forgotten`` names tables that are about to be loaded again. Raises SourceError, WarehouseError.
    """
    missing = missing_files(context.source, snapshot, text)
    if not missing:
        return False
    retained = retained_loads(context, snapshot, text.uri, hashlib.sha256(text.data).hexdigest())
    return not missing.keys() <= retained.keys() - set(forgotten)


def is_ready(context: Context, snapshot: Snapshot) -> bool:
    """Tell whether all is at the source that a run needs. Raises SourceError, WarehouseError."""
    return context.source.is_ready(snapshot) or _has_needed_files(context, snapshot, ())


def wait_until_ready(context: Context, snapshot: Snapshot, forgotten: Collection[str] = ()) -> bool:
    """Tell the same for a run, which waits where rows may still change: see Source.wait_until_ready.

    ``forgotten`` names tables that are about to be loaded again. Raises SourceError, WarehouseError.
    """
    return context.source.wait_until_ready(snapshot) or _has_needed_files(context, snapshot, forgotten)


def _has_needed_files(context: Context, snapshot: Snapshot, forgotten: Collection[str]) -> bool:
    text = context.source.peek(snapshot)
    return text is not None and text.data != b"" and not lacks_files(context, snapshot, text, forgotten)
