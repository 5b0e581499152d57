"""Fetch a file: streamed to disk, hashed on the way, in its place only when it is what the manifest lists."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ASK_UPSTREAM, FileError, ManifestError
from pipeline.files import atomic
from pipeline.manifest import FileEntry, Manifest, leave_out, parse_manifest
from pipeline.snapshot import Snapshot
from pipeline.sources import RemoteFile, Source, file_keys
from pipeline.tables import BY_NAME, Table

_PUBLISHING = "upstream may be publishing right now: run again; if it stays so, " + ASK_UPSTREAM


def locate(source: Source, snapshot: Snapshot, entry: FileEntry) -> RemoteFile:
    """Return the object of a table: in the snapshot's folder, or the labels that every export overwrites.

    Raises FileError when there is none, or when its size is not what the manifest says.
    """
    keys = file_keys(snapshot, entry)
    for key in keys:
        found = source.find(key)
        if found is None:
            continue
        if entry.size is not None and found.size != entry.size and not _is_shared(found, snapshot):
            raise FileError(f"{key}: {found.size} bytes, the manifest says {entry.size}", hint=_PUBLISHING)
        return found
    raise FileError(
        f"{entry.name}: the manifest lists it, but {source.uri} has no {' and no '.join(keys)}",
        hint=f"{_PUBLISHING}; {leave_out(BY_NAME[entry.table])}",
    )


def _is_shared(file: RemoteFile, snapshot: Snapshot) -> bool:
    return file.key == snapshot.shared_labels_key


def fetch(
    source: Source,
    snapshot: Snapshot,
    manifest: Manifest,
    table: Table,
    path: Path,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[str, str]:
    """Write the table's file to ``path``; return its SHA-256, and the snapshot that superseded it or ''.

    ``report`` is called with bytes done and in all. Raises FileError when the bytes are not those that the manifest
    lists, and what the source raises; then ``path`` is as it was.
    """
    entry = manifest.files[table.name]
    remote = locate(source, snapshot, entry)
    sha256 = hashlib.sha256()
    listed = sha256 if entry.algorithm == sha256.name else hashlib.new(entry.algorithm, usedforsecurity=False)
    done = 0
    with atomic.linking(path, remote.local) if remote.local else atomic.replacing(path) as file:
        for piece in source.read(remote):
            file.write(piece)
            for digest in {sha256, listed}:
                digest.update(piece)
            done += len(piece)
            report(done, remote.size)
        if listed.hexdigest() == entry.digest and entry.size in {None, done}:
            return sha256.hexdigest(), ""
        if not _is_shared(remote, snapshot):
            raise FileError(
                f"{remote.key}: {entry.algorithm.upper()} is {listed.hexdigest()}, the manifest says {entry.digest}",
                hint=_PUBLISHING,
            )
        return sha256.hexdigest(), str(_superseding(source, snapshot, manifest, table, sha256.hexdigest()))


def _superseding(source: Source, snapshot: Snapshot, manifest: Manifest, table: Table, sha256: str) -> Snapshot:
    """Return the snapshot with a newer manifest that lists these labels. Raises FileError when there is none.

    The labels of a network are one object, overwritten by every export: for an older date they are superseded, and
    only a newer manifest of the same network can vouch for them.
    """
    for other in source.manifests(snapshot.network):
        if other == snapshot:
            continue
        text = source.read_manifest(other)
        try:
            found = parse_manifest(text.data, other, allow_md5=False, tables=[table]) if text else None
        except ManifestError:
            continue
        if found and found.files[table.name].digest == sha256 and _is_newer(other, found, snapshot, manifest):
            return other
    listed = manifest.files[table.name]
    raise FileError(
        f"{snapshot.shared_labels_key}: SHA-256 is {sha256}, the manifest says {listed.digest}, "
        f"and no newer manifest of {snapshot.network} lists it either",
        hint=_PUBLISHING,
    )


def _is_newer(other: Snapshot, theirs: Manifest, snapshot: Snapshot, ours: Manifest) -> bool:
    """Compare when two manifests were written; where one does not say, the date that they are about."""
    if theirs.generated_at and ours.generated_at:
        return theirs.generated_at > ours.generated_at
    return other.processing_date > snapshot.processing_date
