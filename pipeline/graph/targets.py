"""The luigi targets: each answers "is it done?" with the whole truth, by one cheap look at where the truth is."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from dataclasses import dataclass, field

import luigi

from pipeline.errors import SourceUnavailableError, WarehouseUnavailableError
from pipeline.files.workspace import Workspace
from pipeline.graph.context import Context
from pipeline.graph.retained import is_ready, loads_of_files, loads_to_publish, retained_loads, rows_of_audits
from pipeline.snapshot import Snapshot
from pipeline.tables import Table
from pipeline.warehouse.audit_log import is_cleared
from pipeline.warehouse.publications import Publication, effective_publications, newest_publication


@dataclass(frozen=True)
class SnapshotTarget(luigi.Target):
    """Something that is there or not for one snapshot."""

    context: Context = field(repr=False)  # luigi puts targets into its messages
    snapshot: Snapshot

    @property
    def workspace(self) -> Workspace:
        """The snapshot's work directory."""
        return self.context.workspace(self.snapshot)


class ReadySnapshot(SnapshotTarget):
    """Upstream has finished the snapshot: META.json and the files that it lists are at the source."""

    def exists(self) -> bool:
        """Ask the source. Raises SourceError."""
        return is_ready(self.context, self.snapshot)


@dataclass(frozen=True)
class ExportedTable(SnapshotTarget):
    """A table of the SOT ClickHouse is in a file here, with the rows that it has there."""

    table: Table

    def exists(self) -> bool:
        """Look at the proof, then compare it with what this run saw of the rows, else with them. Raises SourceError."""
        sot = self.context.sot
        return sot is not None and sot.is_exported(self.snapshot, self.table)


class WrittenManifest(SnapshotTarget):
    """META.json is written of the exported tables, which have the rows that the SOT ClickHouse has."""

    def exists(self) -> bool:
        """Look for it, then ask for each table as ExportedTable does. Raises SourceError."""
        sot = self.context.sot
        return sot is not None and sot.is_manifest_written(self.snapshot)


class ManifestOnDisk(SnapshotTarget):
    """META.json on disk is whole, and is the one at the source."""

    def exists(self) -> bool:
        """Compare digest and version; while the source does not answer, what is on disk counts.

        The source is asked unless this run is about the manifest on disk: see steps.pin_manifest.
        """
        manifest = self.workspace.downloaded_manifest()
        if manifest is None:
            return False
        known, key = self.context.confirmed, (self.snapshot, manifest.uri)
        if key not in known and not self.workspace.is_newest(manifest, self.context.run_id):
            with contextlib.suppress(SourceUnavailableError):  # then what is on disk counts
                if self.context.source.manifest_uri(self.snapshot) != manifest.uri:
                    return False
            known.add(key)
        return True


class ProofOnDisk(SnapshotTarget):
    """A step's proof, which is about the manifest on disk: none when upstream has published another since."""

    def exists(self) -> bool:
        """Ask for the manifest, then for the proof."""
        return ManifestOnDisk(self.context, self.snapshot).exists() and self.is_proven()

    @abstractmethod
    def is_proven(self) -> bool:
        """Look at the proof."""


class ValidManifest(ProofOnDisk):
    """The manifest on disk was validated."""

    def is_proven(self) -> bool:
        """Look at the proof, which is bound to the manifest's digest."""
        return self.workspace.is_manifest_valid()


@dataclass(frozen=True)
class ProofOfTable(ProofOnDisk):
    """A step's proof about one table, or that nothing is to be done for the table: a repair of others retains it."""

    table: Table

    def exists(self) -> bool:
        """Ask for the manifest, then for the proof, then whether the table is retained."""
        return ManifestOnDisk(self.context, self.snapshot).exists() and (self.is_proven() or self._is_retained())

    def _is_retained(self) -> bool:
        """Look for a published load; while the warehouse does not answer, the files are fetched and validated."""
        manifest = self.workspace.downloaded_manifest()
        if manifest is None:
            return False
        try:
            return self.table.name in retained_loads(self.context, self.snapshot, manifest.uri, manifest.sha256)
        except WarehouseUnavailableError:
            return False


@dataclass(frozen=True)
class FileOnDisk(ProofOfTable):
    """A table's file is on disk, as the manifest lists it."""

    def is_proven(self) -> bool:
        """Look at the proof, which is bound to the listed digest, and at size and time of the file."""
        return self.workspace.downloaded_file(self.table) is not None


@dataclass(frozen=True)
class ValidFile(ProofOfTable):
    """A table's file on disk passed a validation."""

    step: str

    def is_proven(self) -> bool:
        """Look at the proof, which is bound to the digests of the manifest and of the file."""
        return self.workspace.is_file_valid(self.step, self.table)


@dataclass(frozen=True)
class TableLoad(ProofOfTable):
    """The table's file was loaded, and all its rows are in the warehouse."""

    def is_proven(self) -> bool:
        """Look into the ledger for proven loads of the files on disk, and count their rows."""
        is_on_disk = self.workspace.downloaded_file(self.table) is not None
        return is_on_disk and self.table.name in loads_of_files(self.context, self.snapshot)


class AuditedLoads(ProofOnDisk):
    """The audits passed, or were accepted, for exactly the loads that are about to be published.

    Audits that are written or changed later ask nothing of them any more.
    """

    def is_proven(self) -> bool:
        """Look for the loads, then for what came of their audits."""
        loads = loads_to_publish(self.context, self.snapshot)
        if not loads.keys() >= set(self.context.settings.table_names):
            return False
        rows = rows_of_audits(self.context, self.snapshot)
        return is_cleared(rows, {name: load_id for name, (load_id, _) in loads.items()})


class PublishedSnapshot(SnapshotTarget):
    """Readers see the snapshot that the newest manifest describes, or an operator took them back from it."""

    def exists(self) -> bool:
        """Ask whether it is current; while the source does not answer, what readers see counts."""
        try:
            return self.is_current()
        except SourceUnavailableError:
            return True

    def is_current(self) -> bool:
        """Compare what was published with the manifest on disk, else with the one at the source.

        Raises SourceUnavailableError when something is published and the source does not answer.
        """
        published = effective_publications(self.context.publications(self.snapshot), self.context.settings.table_names)
        if not published:
            return False
        if ManifestOnDisk(self.context, self.snapshot).exists():
            on_disk = self.workspace.downloaded_manifest()
            return on_disk is not None and any(each.is_of(on_disk.uri, on_disk.sha256) for each in published)
        known = {publication.source: publication.manifest_sha256 for publication in published}
        return self.context.is_current(self.snapshot, known)


class VisibleSnapshot(SnapshotTarget):
    """Readers see all tables of the snapshot, whichever manifest they are of."""

    def exists(self) -> bool:
        """Ask the warehouse. Raises WarehouseError."""
        return self.publication() is not None

    def publication(self) -> Publication | None:
        """Return what readers see, unless tables are missing in it. Raises WarehouseError."""
        seen = newest_publication(self.context.warehouse(self.snapshot.network), self.snapshot)
        is_whole = seen and seen.action != "retire" and seen.covers(self.context.settings.table_names)
        return seen if is_whole else None


class CleanedUp(SnapshotTarget):
    """The snapshot is published and left nothing on disk."""

    def exists(self) -> bool:
        """Look at the disk, then at the publication."""
        return not self.workspace.path.exists() and PublishedSnapshot(self.context, self.snapshot).exists()

    def is_current(self) -> bool:
        """Look at the disk, then at the publication. Raises SourceUnavailableError: see PublishedSnapshot."""
        return not self.workspace.path.exists() and PublishedSnapshot(self.context, self.snapshot).is_current()
