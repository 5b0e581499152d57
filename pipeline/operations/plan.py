"""What a run would do and why, without doing it: nothing is written, and of the source only META.json is read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.errors import FileError, ManifestError
from pipeline.graph.context import Context
from pipeline.graph.retained import lacks_files, retained_loads
from pipeline.graph.walk import PendingStep, pending_steps
from pipeline.manifest import FileEntry, Manifest, parse_manifest
from pipeline.snapshot import Snapshot
from pipeline.sources.download import locate
from pipeline.tables import BY_NAME
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import audit_rows, is_cleared
from pipeline.warehouse.publications import Publication, newest_publication

Load = tuple[str, int]  #: load_id and row count

NO_SNAPSHOT = "snapshot not at the source"
PUBLISHED = "published, nothing to do"
CHANGED, FORGOTTEN, NO_PROOF = "manifest changed upstream", "to be loaded again", "no proof"


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
            **self.snapshot.as_dict(),
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
    pending = pending_steps(snapshot)
    if not pending:
        return Plan(snapshot, (), PUBLISHED)
    if pending == [PendingStep("CleanUp")]:
        return Plan(snapshot, (PlannedStep("CleanUp", (), "work files are left"),), "published")
    found = shared.source.peek(snapshot)
    if found is None or lacks_files(shared, snapshot, found):
        return Plan(snapshot, (), NO_SNAPSHOT)
    try:
        manifest = _parsed(shared, snapshot, found.data) if found.data else None
    except ManifestError as error:
        return Plan(snapshot, _until_refused(error), f"manifest is refused: {error}")
    publication = newest_publication(shared.warehouse(snapshot.network), snapshot)
    on_disk = shared.workspace(snapshot).downloaded_manifest()
    reason = _reason(publication, changed=bool(on_disk and on_disk.uri != found.uri))
    planned = [PlannedStep(step.step, step.tables, reason) for step in pending]
    if manifest is not None:
        retained = retained_loads(shared, snapshot, found.uri, hashlib.sha256(found.data).hexdigest())
        needed = (step for each in planned if (step := _without(retained, each)))
        planned = [step for each in needed if (step := _foreseen(shared, snapshot, manifest, retained, each))]
    return Plan(snapshot, tuple(planned), reason)


def _parsed(shared: Context, snapshot: Snapshot, data: bytes) -> Manifest:
    chosen = shared.settings
    return parse_manifest(data, snapshot, allow_md5=chosen.allow_md5, tables=chosen.tables)


def _reason(publication: Publication | None, *, changed: bool) -> str:
    if publication and publication.forgotten:
        return FORGOTTEN
    return CHANGED if publication or changed else NO_PROOF


def _until_refused(error: ManifestError) -> tuple[PlannedStep, ...]:
    return (PlannedStep("DownloadManifest", (), NO_PROOF), PlannedStep("ValidateManifest", (), f"fails: {error}"))


def _without(retained: Collection[str], planned: PlannedStep) -> PlannedStep | None:
    """Return a step without the tables whose loads stay published; None when nothing is left to do."""
    tables = tuple(name for name in planned.tables if name not in retained)
    return replace(planned, tables=tables) if tables or not planned.tables else None


def _foreseen(
    shared: Context, snapshot: Snapshot, manifest: Manifest, retained: Mapping[str, Load], planned: PlannedStep
) -> PlannedStep | None:
    """Foresee what a step finds when it comes to it, and the manifest and the files are on disk.

    A file that the manifest lists as an earlier one did is not downloaded again, and one that is loaded already, here
    or by another host, is not loaded again. None is a step with nothing to do.
    """
    if planned.step == "AuditSnapshot":
        return _foreseen_audit(shared, snapshot, manifest, retained, planned)
    files = {name: _digest_on_disk(shared, snapshot, manifest.files[name]) for name in planned.tables}
    if planned.step == "DownloadFile":
        tables = tuple(name for name, digest in files.items() if digest is None)
        size = total(_size(shared, snapshot, manifest, name) for name in tables)
        return replace(planned, tables=tables, bytes=size) if tables else None
    if planned.step == "LoadTable":
        loaded = _loaded(shared, snapshot, manifest, planned.tables)
        tables = tuple(name for name in planned.tables if name not in loaded)
        rows = total(manifest.files[name].rows for name in tables)
        return replace(planned, tables=tables, rows=rows) if tables else None
    return planned


def _foreseen_audit(
    shared: Context, snapshot: Snapshot, manifest: Manifest, retained: Mapping[str, Load], planned: PlannedStep
) -> PlannedStep | None:
    """Foresee whether the loads have passed the audits already, or are held."""
    wanted = [name for name in manifest.files if name not in retained]
    loads = {**_loaded(shared, snapshot, manifest, wanted), **retained}
    ids = {name: load_id for name, (load_id, _) in loads.items()}
    rows = audit_rows(shared.warehouse(snapshot.network), snapshot)
    if is_cleared(rows, ids):
        return None
    verdict = next((row for row in reversed(rows) if not row.audit and row.load_ids == ids), None)
    return replace(planned, reason=f"held by {verdict.message}") if verdict else planned


def _loaded(shared: Context, snapshot: Snapshot, manifest: Manifest, tables: Iterable[str]) -> dict[str, Load]:
    """Return the proven loads of the files that the manifest lists, here or by another host."""
    listed = {name: entry.digest for name, entry in manifest.files.items() if entry.algorithm == "sha256"}
    files = {name: _digest_on_disk(shared, snapshot, manifest.files[name]) for name in tables}
    digests = {name: sha256 for name, digest in files.items() if (sha256 := digest or listed.get(name))}
    return ledger.find_proven_loads(shared.warehouse(snapshot.network), snapshot, digests)


def _digest_on_disk(shared: Context, snapshot: Snapshot, entry: FileEntry) -> str | None:
    """Return the SHA-256 of a table's file on disk, or None unless it is the one that the manifest lists."""
    file = shared.workspace(snapshot).downloaded_file(BY_NAME[entry.table])
    return file.sha256 if file and file.listed == entry.digest else None


def _size(shared: Context, snapshot: Snapshot, manifest: Manifest, table: str) -> int | None:
    """Return the bytes of a table's object, or None when a run would find that it is not as listed."""
    try:
        return locate(shared.source, snapshot, manifest.files[table]).size
    except FileError:
        return None
