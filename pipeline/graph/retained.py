"""The loads that a repair of other tables leaves published: their files are not needed again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from pipeline.graph.context import Context
from pipeline.snapshot import Snapshot
from pipeline.sources import ManifestText, missing_files
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import AuditRow, audit_rows


def retained_loads(context: Context, snapshot: Snapshot, uri: str, sha256: str) -> dict[str, tuple[str, int]]:
    """Return ``(load_id, row count)`` by name of the tables that readers see as a manifest describes them.

    Only those whose load is proven still. None unless the newest publication is of the manifest: when upstream
    published another one since, all its files are needed. Raises WarehouseError.
    """
    seen = next(iter(context.publications(snapshot)[-1:]), None)
    if seen is None or not (seen.is_of(uri, sha256) or context.source.is_same(seen.source, uri)):
        return {}
    warehouse = context.warehouse(snapshot.network)
    return context.answers.ask(
        "loads",
        (snapshot, seen.publication_id),
        lambda: ledger.proven_loads(warehouse, snapshot, seen.load_ids, since=seen.published_at),
    )


def loads_of_files(context: Context, snapshot: Snapshot) -> dict[str, tuple[str, int]]:
    """Return ``(load_id, row count)`` by name of the tables whose file on disk has a proven load, as this run knows.

    Asked about are the files, too, that are listed and not yet on disk: so it is one question for all tables. Raises
    WarehouseError.
    """
    workspace = context.workspace(snapshot)
    files = {table.name: file.sha256 for table in workspace.tables if (file := workspace.downloaded_file(table))}
    if not files:
        return {}
    listed = {name: entry.digest for name, entry in workspace.manifest().files.items() if entry.algorithm == "sha256"}
    wanted, warehouse = {**listed, **files}, context.warehouse(snapshot.network)
    found = context.answers.ask(
        "loads", (snapshot, *wanted.items()), lambda: ledger.find_proven_loads(warehouse, snapshot, wanted)
    )
    return {name: load for name, load in found.items() if name in files}


def loads_to_publish(context: Context, snapshot: Snapshot) -> dict[str, tuple[str, int]]:
    """Return ``(load_id, row count)`` by name of the tables that have a load to be published with the manifest on disk.

    That is the published one, where it is retained, else the one of the file on disk. Raises WarehouseError.
    """
    workspace = context.workspace(snapshot)
    if (manifest := workspace.downloaded_manifest()) is None:
        return {}
    retained = retained_loads(context, snapshot, manifest.uri, manifest.sha256)
    return {**loads_of_files(context, snapshot), **retained}


def rows_of_audits(context: Context, snapshot: Snapshot) -> list[AuditRow]:
    """Return what is recorded of a snapshot's audits, as this run knows it. Raises WarehouseError."""
    warehouse = context.warehouse(snapshot.network)
    return context.answers.ask("audits", snapshot, lambda: audit_rows(warehouse, snapshot))


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
