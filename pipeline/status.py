"""What is published, rolled back, half done or missing: networks × days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pipeline.context import Context, context
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES
from pipeline.warehouse import ledger
from pipeline.warehouse.publish import Publication, histories
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Status:
    """One network's day."""

    snapshot: Snapshot
    state: str  #: published, rolled back, retired, half done or missing
    step: str | None  #: the step that a rerun starts with, when half done
    publication: Publication | None  #: what readers see

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        seen = self.publication
        return {
            "network": self.snapshot.network,
            "processing_date": self.snapshot.processing_date.isoformat(),
            "window_days": self.snapshot.window_days,
            "state": self.state,
            "step": self.step,
            "rows": dict(seen.row_counts) if seen else None,
            "publication_id": seen.publication_id if seen else None,
            "action": seen.action if seen else None,
            "published_at": seen.published_at.isoformat() if seen else None,
            "manifest_sha256": seen.manifest_sha256 if seen else None,
            "source": seen.source if seen else None,
        }


def collect(*, days: int, last: date, window_days: int) -> list[Status]:
    """Return the status of each configured network and of ``days`` days up to ``last``, the newest first.

    Two queries a network. Raises WarehouseError.
    """
    shared = context()
    first = last - timedelta(days=days - 1)
    found = []
    for network in shared.settings.networks:
        seen = {day: past[-1] for day, past in histories(shared.warehouse(network), first, last, window_days).items()}
        loaded = ledger.loaded_tables(shared.warehouse(network), first, last, window_days)
        for day in (last - timedelta(days=back) for back in range(days)):
            snapshot = Snapshot(network, day, window_days)
            found.append(_status(shared, snapshot, seen.get(day), loaded.get(day)))
    return found


def _status(shared: Context, snapshot: Snapshot, publication: Publication | None, loaded: set[str] | None) -> Status:
    """Tell the state from what is published, from this host's work directory, and from every host's ledger."""
    workspace = shared.workspace(snapshot)
    if publication and publication.action == "retire":
        return Status(snapshot, "retired", None, None)
    if workspace.path.exists() or (publication and publication.forgotten):
        return Status(snapshot, "half done", next_step(shared, workspace, publication), publication)
    if publication is None and loaded is not None:  # on another host, or its work directory is gone
        missing = [table.name for table in TABLES if table.name not in loaded]
        return Status(snapshot, "half done", f"LoadTable {', '.join(missing)}" if missing else "PublishSnapshot", None)
    if publication is None:
        return Status(snapshot, "missing", None, None)
    state = "rolled back" if publication.action == "rollback" else "published"
    return Status(snapshot, state, None, publication)


def next_step(shared: Context, workspace: Workspace, publication: Publication | None) -> str:
    """Return the first step that is not proven, with the tables that it is missing for."""
    manifest = workspace.downloaded_manifest()
    if manifest is None:
        return "DownloadManifest"
    if not workspace.is_manifest_valid():
        return "ValidateManifest"
    if publication and not publication.forgotten and publication.manifest_sha256 == manifest.sha256:
        return "CleanUp"
    return next(_unproven(shared, workspace), "PublishSnapshot")


def _unproven(shared: Context, workspace: Workspace) -> Iterator[str]:
    files = {table: workspace.downloaded_file(table) for table in TABLES}
    if missing := [table.name for table, file in files.items() if file is None]:
        yield f"DownloadFile {', '.join(missing)}"
    for step, name in (("validate-files", "ValidateFiles"), ("validate-checksums", "ValidateChecksums")):
        if not workspace.are_files_valid(step):
            yield name
    warehouse = shared.warehouse(workspace.snapshot.network)
    if missing := [
        table.name
        for table, file in files.items()
        if file and not ledger.loaded(warehouse, workspace.snapshot, table, file.sha256)
    ]:
        yield f"LoadTable {', '.join(missing)}"
