"""What a run would do and why, without doing it: nothing is written, and of the source only META.json is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.errors import FileError, ManifestError
from pipeline.graph.context import Context
from pipeline.graph.pending import PendingStep, Upstream, pending_steps
from pipeline.manifest import Manifest, parse_manifest
from pipeline.snapshot import Snapshot
from pipeline.sources import missing_files
from pipeline.sources.download import locate
from pipeline.warehouse.publish import Publication, effective_publications, publications_of

NO_SNAPSHOT = "snapshot not at the source"
PUBLISHED = "published, nothing to do"
CHANGED, ANEW, NO_PROOF = "manifest changed upstream", "to be loaded anew", "no proof"


@dataclass(frozen=True)
class PlannedStep:
    """A step that a run would do."""

    step: str
    tables: tuple[str, ...]
    reason: str
    bytes: int | None = None  #: to download, where the source says it
    rows: int | None = None  #: to load, where the manifest says it


@dataclass(frozen=True)
class Plan:
    """What a run would do with a snapshot."""

    snapshot: Snapshot
    steps: tuple[PlannedStep, ...]
    reason: str

    @property
    def bytes(self) -> int | None:
        """What is to be downloaded, or None when that is not known."""
        return total(step.bytes for step in self.steps if step.step == "DownloadFile")

    @property
    def rows(self) -> int | None:
        """What is to be loaded, or None when that is not known."""
        return total(step.rows for step in self.steps if step.step == "LoadTable")

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            "network": self.snapshot.network,
            "processing_date": self.snapshot.processing_date.isoformat(),
            "window_days": self.snapshot.window_days,
            "reason": self.reason,
            "steps": [asdict(step) for step in self.steps],
            "bytes": self.bytes,
            "rows": self.rows,
        }


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum, or None when a part of it is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def make_plan(shared: Context, snapshot: Snapshot) -> Plan:
    """Return what a run would do now. Raises SourceError, WarehouseError."""
    past = publications_of(shared.warehouse(snapshot.network), snapshot)
    publication = past[-1] if past else None
    workspace = shared.workspace(snapshot)
    known = {each.source: each.manifest_sha256 for each in effective_publications(past, shared.settings.table_names)}
    if known and shared.source.is_current(snapshot, known):
        left_over = (PlannedStep("CleanUp", (), "work files are left"),) if workspace.path.exists() else ()
        return Plan(snapshot, left_over, "published" if left_over else PUBLISHED)
    found = shared.source.peek(snapshot)
    if found is None or missing_files(shared.source, snapshot, found):
        return Plan(snapshot, (), NO_SNAPSHOT)
    try:
        manifest = _parsed(shared, snapshot, found.data) if found.data else None
    except ManifestError as error:
        return Plan(snapshot, _until_refused(error), f"manifest is refused: {error}")
    on_disk = workspace.downloaded_manifest()
    reason = _reason(publication, changed=bool(on_disk and on_disk.uri != found.uri))
    steps = [
        _measured(shared, snapshot, manifest, step, reason)
        for step in pending_steps(shared, workspace, publication, Upstream(found.uri, manifest))
    ]
    return Plan(snapshot, tuple(steps), reason)


def _parsed(shared: Context, snapshot: Snapshot, data: bytes) -> Manifest:
    chosen = shared.settings
    return parse_manifest(data, snapshot, allow_md5=chosen.allow_md5, tables=chosen.tables)


def _reason(publication: Publication | None, *, changed: bool) -> str:
    if publication and publication.forgotten:
        return ANEW
    return CHANGED if publication or changed else NO_PROOF


def _until_refused(error: ManifestError) -> tuple[PlannedStep, ...]:
    return (PlannedStep("DownloadManifest", (), NO_PROOF), PlannedStep("ValidateManifest", (), f"fails: {error}"))


def _measured(
    shared: Context, snapshot: Snapshot, manifest: Manifest | None, step: PendingStep, reason: str
) -> PlannedStep:
    """Add bytes and rows to a step, where the manifest and the source know them."""
    planned = PlannedStep(step.step, step.tables, reason)
    if manifest is None:
        return planned
    if step.step == "DownloadFile":
        return replace(planned, bytes=total(_size(shared, snapshot, manifest, name) for name in step.tables))
    if step.step == "LoadTable":
        return replace(planned, rows=total(manifest.files[name].rows for name in step.tables))
    return planned


def _size(shared: Context, snapshot: Snapshot, manifest: Manifest, table: str) -> int | None:
    """Return the bytes of a table's object, or None when a run would find that it is not as listed."""
    try:
        return locate(shared.source, snapshot, manifest.files[table]).size
    except FileError:
        return None
