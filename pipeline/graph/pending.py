"""The steps of a snapshot that have no proof, in the graph's order: what a rerun starts with, what a plan shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.files.workspace import Workspace
from pipeline.graph.context import Context
from pipeline.manifest import Manifest
from pipeline.tables import Table
from pipeline.warehouse import ledger
from pipeline.warehouse.publish import Publication


@dataclass(frozen=True)
class PendingStep:
    """A step without a proof."""

    step: str  #: the task's name
    tables: tuple[str, ...] = ()  #: those that it is missing for, when it is about tables

    def __str__(self) -> str:
        return f"{self.step} {', '.join(self.tables)}".rstrip()


@dataclass(frozen=True)
class Upstream:
    """The manifest that the source holds now."""

    uri: str  #: its version as the fragment
    manifest: Manifest | None  #: None where nobody knows before the step that fetches it


def pending_steps(
    shared: Context, workspace: Workspace, publication: Publication | None, upstream: Upstream | None = None
) -> Iterator[PendingStep]:
    """Yield the steps that a run would do, the next one first; without ``upstream`` the manifest on disk counts.

    ``publication`` is what readers see. Asks the warehouse only when it comes to the loads. Raises WarehouseError.
    """
    on_disk = workspace.downloaded_manifest()
    if on_disk and upstream and on_disk.uri != upstream.uri:
        on_disk = None
    is_settled = publication and not publication.forgotten and publication.covers(shared.settings.table_names)
    if on_disk and publication and is_settled and publication.manifest_sha256 == on_disk.sha256:
        yield PendingStep("CleanUp")
        return
    if on_disk is None:
        yield PendingStep("DownloadManifest")
    if on_disk is None or not workspace.is_manifest_valid():
        yield PendingStep("ValidateManifest")
    if on_disk and workspace.is_manifest_valid():
        yield from _of_files(shared, workspace, workspace.manifest())
    else:
        yield from _of_files(shared, workspace, upstream.manifest if upstream else None)
    yield PendingStep("PublishSnapshot")
    yield PendingStep("CleanUp")


def _of_files(shared: Context, workspace: Workspace, manifest: Manifest | None) -> Iterator[PendingStep]:
    """Yield what is to be done with the files that ``manifest`` lists; all of it when that is not known."""
    files = {table: proven_digest(workspace, table, manifest) for table in workspace.tables}
    if missing := tuple(table.name for table, digest in files.items() if digest is None):
        yield PendingStep("DownloadFile", missing)
    for step, name in (("validate-file", "ValidateFile"), ("validate-checksum", "ValidateChecksum")):
        if unproven := tuple(
            table.name
            for table in workspace.tables
            if table.name in missing or not workspace.is_file_valid(step, table)
        ):
            yield PendingStep(name, unproven)
    digests = {table: digest or _listed_digest(manifest, table) for table, digest in files.items()}
    warehouse = shared.warehouse(workspace.snapshot.network)
    loads = tuple(
        table.name
        for table, digest in digests.items()
        if digest is None or not ledger.find_proven_loads(warehouse, workspace.snapshot, {table.name: digest})
    )
    if loads:
        yield PendingStep("LoadTable", loads)


def proven_digest(workspace: Workspace, table: Table, manifest: Manifest | None) -> str | None:
    """Return the SHA-256 of the table's file on disk, or None unless it is the one that ``manifest`` lists."""
    file = workspace.downloaded_file(table)
    return file.sha256 if file and manifest and file.listed == manifest.files[table.name].digest else None


def _listed_digest(manifest: Manifest | None, table: Table) -> str | None:
    """Return the SHA-256 that the table's file will have, where the manifest says it."""
    entry = manifest.files[table.name] if manifest else None
    return entry.digest if entry and entry.algorithm == "sha256" else None
