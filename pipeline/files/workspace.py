"""What is on disk of one snapshot between the source and the warehouse: the files, and the proofs about them.

A proof is bound to the digest of what it proved; when that changes, the proof is none. See ``pipeline`` for the tree.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.files import atomic
from pipeline.manifest import Manifest, parse_manifest
from pipeline.snapshot import MANIFEST_NAME, Snapshot
from pipeline.tables import TABLES, Table

#: A file that takes less to fetch and to hash than a process of its own costs; rows where no size is known.
SMALL_BYTES, SMALL_ROWS = 4 << 20, 5_000


@dataclass(frozen=True)
class DownloadedFile:
    """A file on disk whose bytes were hashed while they were written."""

    listed: str  #: the digest that the manifest lists
    sha256: str  #: of the bytes; another than ``listed`` when superseded, or when the manifest lists an MD5
    bytes: int
    modified: int  #: st_mtime_ns after it was written: a file touched since is not the one that was proven
    superseded_by: str  #: the snapshot whose manifest lists these bytes, when it is not this one's
    run_id: str  #: of the run that wrote it


@dataclass(frozen=True)
class DownloadedManifest:
    """META.json on disk."""

    sha256: str
    uri: str  #: where it came from, its version as the fragment


@dataclass(frozen=True)
class Workspace:
    """One snapshot's directory under ``root``."""

    root: Path
    snapshot: Snapshot
    allow_md5: bool = False
    tables: tuple[Table, ...] = TABLES  #: those that a manifest must list

    @property
    def path(self) -> Path:
        """The directory; without it nothing before the load is proven."""
        return self.root / str(self.snapshot)

    @property
    def manifest_path(self) -> Path:
        """META.json, byte for byte as it was downloaded."""
        return self.path / MANIFEST_NAME

    def file_path(self, table: Table) -> Path:
        """The table's Parquet file, whatever the source calls it."""
        return self.path / f"{table.name}.parquet"

    def _proof(self, step: str) -> Path:
        return self.path / "proofs" / f"{step}.json"

    def lock(self, step: str) -> AbstractContextManager[None]:
        """Keep other processes of this host out of a step of this snapshot; waits for them."""
        return atomic.locked(self.root / "locks" / f"{str(self.snapshot).replace('/', '_')}_{step}.lock")

    def run_lock(self) -> AbstractContextManager[bool]:
        """Keep other runs of this deployment from the snapshot; False when one of them is at work on it."""
        return atomic.held_by_process(self.root / "locks" / f"{str(self.snapshot).replace('/', '_')}.lock")

    def downloaded_manifest(self) -> DownloadedManifest | None:
        """Return the manifest on disk, or None when there is none that is whole."""
        proof = atomic.read_proof(self._proof("download-manifest"))
        if proof is None or not self.manifest_path.exists():
            return None
        found = DownloadedManifest(**proof)
        return found if atomic.sha256_of(self.manifest_path) == found.sha256 else None

    def keep_manifest(self, data: bytes, uri: str) -> DownloadedManifest:
        """Store META.json and the proof that it was downloaded."""
        manifest = DownloadedManifest(hashlib.sha256(data).hexdigest(), uri)
        with atomic.replacing(self.manifest_path) as file:
            file.write(data)
        atomic.write_proof(self._proof("download-manifest"), asdict(manifest))
        return manifest

    def is_newest(self, manifest: DownloadedManifest, run_id: str) -> bool:
        """Tell whether the source said in this run that the manifest is the newest."""
        return self._says("newest-manifest", {"run": run_id, "uri": manifest.uri})

    def keep_newest(self, manifest: DownloadedManifest, run_id: str) -> None:
        """Remember, for all processes of this run, that the source said that the manifest is the newest."""
        atomic.write_proof(self._proof("newest-manifest"), {"run": run_id, "uri": manifest.uri})

    def manifest(self) -> Manifest:
        """Return what META.json on disk says. Raises ManifestError, WorkDirectoryError."""
        with atomic.reported(self.manifest_path):
            data = self.manifest_path.read_bytes()
        return parse_manifest(data, self.snapshot, allow_md5=self.allow_md5, tables=self.tables)

    def downloaded_file(self, table: Table) -> DownloadedFile | None:
        """Return the table's file on disk, or None when it is not there, changed, or another manifest's."""
        proof = atomic.read_proof(self._proof(f"download-{table.name}"))
        if proof is None or self.downloaded_manifest() is None:
            return None
        found, path = DownloadedFile(**proof), self.file_path(table)
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        same = (status.st_size, status.st_mtime_ns) == (found.bytes, found.modified)
        return found if same and found.listed == self.manifest().files[table.name].digest else None

    def is_of_run(self, table: Table, run_id: str) -> bool:
        """Tell whether the table's file on disk was written by this run."""
        file = self.downloaded_file(table)
        return file is not None and file.run_id == run_id

    def is_small(self, table: Table) -> bool:
        """Tell whether the table's file is small, by its size, or by what the manifest says while it is not here."""
        if (file := self.downloaded_file(table)) is not None:
            return file.bytes <= SMALL_BYTES
        if self.downloaded_manifest() is None:
            return False
        entry = self.manifest().files[table.name]
        if entry.size is not None:
            return entry.size <= SMALL_BYTES
        return entry.rows is not None and entry.rows <= SMALL_ROWS

    def keep_file(self, table: Table, *, listed: str, sha256: str, superseded_by: str, run_id: str) -> DownloadedFile:
        """Store the proof that the table's file, which is in its place, was downloaded."""
        status = self.file_path(table).stat()
        found = DownloadedFile(listed, sha256, status.st_size, status.st_mtime_ns, superseded_by, run_id)
        atomic.write_proof(self._proof(f"download-{table.name}"), asdict(found))
        return found

    def _digests(self, table: Table) -> dict[str, str] | None:
        """Return the digests that a file's validation is bound to, or None while something is not downloaded."""
        manifest, file = self.downloaded_manifest(), self.downloaded_file(table)
        return {MANIFEST_NAME: manifest.sha256, table.name: file.sha256} if manifest and file else None

    def is_manifest_valid(self) -> bool:
        """Tell whether the manifest on disk was validated."""
        manifest = self.downloaded_manifest()
        return manifest is not None and self._says("validate-manifest", {MANIFEST_NAME: manifest.sha256})

    def keep_manifest_valid(self) -> None:
        """Store the proof that the manifest on disk is valid."""
        manifest = self.downloaded_manifest()
        if manifest is not None:
            atomic.write_proof(self._proof("validate-manifest"), {MANIFEST_NAME: manifest.sha256})

    def is_file_valid(self, step: str, table: Table) -> bool:
        """Tell whether a validation was made of the table's file that is on disk now, by the manifest there."""
        digests = self._digests(table)
        return digests is not None and self._says(f"{step}-{table.name}", digests)

    def keep_file_valid(self, step: str, table: Table) -> None:
        """Store the proof that a validation of the table's file succeeded."""
        digests = self._digests(table)
        if digests is not None:
            atomic.write_proof(self._proof(f"{step}-{table.name}"), digests)

    def _says(self, step: str, facts: dict[str, Any]) -> bool:
        return atomic.read_proof(self._proof(step)) == facts

    def discard_file(self, table: Table) -> None:
        """Remove a file that turned out bad, and the proofs about it."""
        steps = ("download", "validate-file", "validate-checksum")
        atomic.remove(*(self._proof(f"{step}-{table.name}") for step in steps), self.file_path(table))

    def discard_manifest(self) -> None:
        """Remove a manifest that turned out bad, and the proof that it was downloaded."""
        atomic.remove(self._proof("download-manifest"), self._proof("validate-manifest"), self.manifest_path)

    def discard(self) -> None:
        """Remove the directory, and those above it that this leaves empty."""
        atomic.remove_directory(self.path, below=self.root)

    @cached_property
    def bytes(self) -> int:
        """Bytes of the files that are on disk."""
        return sum(path.stat().st_size for path in self.path.glob("*.parquet"))
