"""Where snapshots come from.

A source finds and reads; it never decides. Every method raises
:class:`~pipeline.errors.SourceUnavailableError` when trying again can help and
:class:`~pipeline.errors.SourceError` when it cannot. A source behind a network has already tried again, with
exponential backoff, before it raises the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import ManifestError, SourceError
from pipeline.manifest import MAX_MANIFEST_BYTES, FileEntry, leave_out, parse_manifest
from pipeline.snapshot import MANIFEST_NAME, Snapshot, snapshot_of_manifest_key
from pipeline.tables import BY_NAME, Table

RUN_LATER = "run again later, or ask upstream for it"

#: Takes bytes done, bytes in all (None when not known), and what a person may want to know beside them.
Report = Callable[..., None]

PIECE_BYTES = 1 << 18  #: a connection that is reset loses the piece on its way, so less than 1 MiB


@dataclass(frozen=True)
class RemoteFile:
    """An object at the source, as it was when it was found."""

    key: str  #: relative to the source's root, for example snapshots/torus/2025-08-01/195/alerts.parquet
    size: int  #: bytes
    version: str  #: changes whenever the content does (an ETag; modification time and size of a file)
    local: Path | None = None  #: a file that we wrote under WORK_PATH: it is linked, not copied


@dataclass(frozen=True)
class ManifestText:
    """META.json as the source holds it."""

    data: bytes
    uri: str  #: where it was read and in which version: see Source.manifest_uri


class Source(Protocol):
    """Finds and reads the objects of snapshots; keys are those of the bucket's layout."""

    tables: Sequence[Table]  #: whose files a snapshot must have

    @property
    def uri(self) -> str:
        """The source's root, for people: s3://bucket/prefix or file:///path."""

    def is_ready(self, snapshot: Snapshot) -> bool:
        """Tell whether upstream has finished the snapshot, as far as is known: all that a run needs of it is there.

        Waits for nothing, and leaves no trace of having looked.
        """

    def wait_until_ready(self, snapshot: Snapshot) -> bool:
        """Tell the same; a source that must look twice to know it waits between the two, and remembers what it saw."""

    def absence(self, snapshot: Snapshot) -> tuple[str, str]:
        """Say, of a snapshot that is not ready, what is not there, and what an operator can do."""

    def manifest_uri(self, snapshot: Snapshot) -> str | None:
        """Return the manifest's URI with its version as the fragment, or None when there is no manifest.

        Costs no download: two equal URIs mean the same bytes.
        """

    def is_current(self, snapshot: Snapshot, known: Mapping[str, str]) -> bool:
        """Tell whether the newest manifest is one of those that were read, given as SHA-256 by URI.

        A manifest that is gone supersedes nothing.
        """

    def is_same(self, uri: str, other: str) -> bool:
        """Tell of two manifests of a snapshot, given by URI, whether they are about the same rows of its date."""

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """Return the manifest, or None when there is none. Raises ManifestError above MAX_MANIFEST_BYTES.

        ``uri`` names exactly the version whose bytes are in ``data``.
        """

    def peek(self, snapshot: Snapshot) -> ManifestText | None:
        """Return the manifest, or None when there is none, and leave no trace of having looked.

        ``data`` is empty where the manifest is only written when what it is about is exported.
        """

    def find(self, key: str) -> RemoteFile | None:
        """Return the object at ``key``, or None when there is none."""

    def read(self, file: RemoteFile) -> Iterator[bytes]:
        """Yield the object's bytes in order, in pieces of at most 1 MiB.

        A connection that breaks is resumed where it broke. Raises FileError when the object is not, or no
        longer, the one that was found: replaced, gone, shorter or longer than ``file.size``. That can come
        after the last piece: the bytes are good only when the iterator ends by itself.
        """

    def manifests(self, network: str) -> Iterator[Snapshot]:
        """Yield the network's snapshots that have a manifest, the newest processing date first."""

    def confirm(self, snapshot: Snapshot, table: Table, content_digest: str | None) -> None:
        """Raise SourceChangedError when the table's rows are no longer those of the manifest."""

    def discard(self, snapshot: Snapshot, table: Table | None = None) -> None:
        """Remove what reading the snapshot, or one table of it, left with us: it is not what it should be, or done."""


class ManifestAtSource:
    """What sources have in common whose manifest upstream writes.

    Upstream uploads a folder in the order of its names, so META.json comes before most of the files that it lists.
    """

    def is_ready(self: Source, snapshot: Snapshot) -> bool:
        """Tell whether there is a manifest, and every file that it lists and we need."""
        try:
            text = self.read_manifest(snapshot)
        except ManifestError:
            return True  # the step that reads it says what is wrong with it
        return text is not None and not missing_files(self, snapshot, text)

    def wait_until_ready(self: Source, snapshot: Snapshot) -> bool:
        """Look once: what upstream has uploaded is finished."""
        return self.is_ready(snapshot)

    def absence(self: Source, snapshot: Snapshot) -> tuple[str, str]:
        """Name the folder that has no manifest, or the files that are listed and not there."""
        text = self.read_manifest(snapshot)
        if text is not None and (missing := missing_files(self, snapshot, text)):
            instead = "; ".join(leave_out(BY_NAME[table]) for table in missing)
            hint = f"{MANIFEST_NAME} lists it, and upstream has not uploaded it (yet): {RUN_LATER}; {instead}"
            return ", no ".join(missing.values()), hint
        return snapshot.folder, f"upstream has not published it (yet): there is no {MANIFEST_NAME}; {RUN_LATER}"

    def is_current(self: Source, snapshot: Snapshot, known: Mapping[str, str]) -> bool:
        """Compare the version, and where that is another, the digest."""
        if self.manifest_uri(snapshot) in {None, *known}:
            return True
        try:
            text = self.read_manifest(snapshot)
        except ManifestError:
            return False  # the run that follows says what is wrong with it
        return text is None or hashlib.sha256(text.data).hexdigest() in known.values()

    def is_same(self, uri: str, other: str) -> bool:
        """Compare the version."""
        return uri == other

    def peek(self: Source, snapshot: Snapshot) -> ManifestText | None:
        """Read it: it is small, and reading leaves nothing."""
        return self.read_manifest(snapshot)

    def confirm(self, snapshot: Snapshot, table: Table, content_digest: str | None) -> None:
        """Do nothing: the digest of the file proves the rows."""

    def discard(self, snapshot: Snapshot, table: Table | None = None) -> None:
        """Do nothing: reading leaves nothing."""


def file_keys(snapshot: Snapshot, entry: FileEntry) -> list[str]:
    """Return where a listed file may be: in the snapshot's folder, or where every export overwrites the labels."""
    shared = [snapshot.shared_labels_key] if BY_NAME[entry.table].shared else []
    return [f"{snapshot.folder}/{entry.name}", *shared]


def missing_files(source: Source, snapshot: Snapshot, text: ManifestText) -> dict[str, str]:
    """Return the keys, by table, of the files that the manifest lists and we need, and that are not at the source.

    None of a manifest that is refused, and no file that the source refuses: the steps that read them say why.
    """
    try:
        manifest = parse_manifest(text.data, snapshot, allow_md5=True, tables=source.tables) if text.data else None
    except ManifestError:
        return {}
    wanted = {entry.table: file_keys(snapshot, entry) for entry in (manifest.files.values() if manifest else ())}
    return {table: keys[-1] for table, keys in wanted.items() if not _is_there(source, keys)}


def _is_there(source: Source, keys: Sequence[str]) -> bool:
    """Tell whether there is an object at one of the keys, or one that may not be read; the labels are mostly shared."""
    try:
        return any(source.find(key) is not None for key in reversed(keys))
    except SourceError as error:
        if error.transient:
            raise
        return True


def newest_first(keys: Iterable[str]) -> Iterator[Snapshot]:
    """Yield the snapshots whose manifests are among ``keys``, the newest processing date first.

    Holds the snapshots, not the keys: one per day and window.
    """
    found = {snapshot for key in keys if (snapshot := snapshot_of_manifest_key(key))}
    yield from sorted(found, key=lambda snapshot: (snapshot.processing_date, snapshot.window_days), reverse=True)


def too_large(uri: str) -> ManifestError:
    """Return the error for a manifest of more than MAX_MANIFEST_BYTES."""
    return ManifestError(
        f"{uri} has more than {MAX_MANIFEST_BYTES} bytes",
        hint="look at the object: this is not a manifest; upstream must publish the snapshot again",
    )
