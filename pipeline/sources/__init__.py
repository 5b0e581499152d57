"""Where snapshots come from.

A source finds and reads; it never decides. Every method raises
:class:`~pipeline.errors.SourceUnavailableError` when trying again can help and
:class:`~pipeline.errors.SourceError` when it cannot. A source behind a network has already tried again, with
exponential backoff, before it raises the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import ManifestError
from pipeline.manifest import MAX_MANIFEST_BYTES
from pipeline.snapshot import Snapshot, snapshot_of_manifest_key

PIECE_BYTES = 1 << 18  #: a connection that is reset loses the piece on its way, so less than 1 MiB


@dataclass(frozen=True)
class RemoteFile:
    """An object at the source, as it was when it was found."""

    key: str  #: relative to the source's root, for example snapshots/torus/2025-08-01/195/alerts.parquet
    size: int  #: bytes
    version: str  #: changes whenever the content does (an ETag; modification time and size of a file)


@dataclass(frozen=True)
class ManifestText:
    """META.json as the source holds it."""

    data: bytes
    uri: str  #: where it was read and in which version: see Source.manifest_uri


class Source(Protocol):
    """Finds and reads the objects of snapshots; keys are those of the bucket's layout."""

    @property
    def uri(self) -> str:
        """The source's root, for people: s3://bucket/prefix or file:///path."""

    def manifest_uri(self, snapshot: Snapshot) -> str | None:
        """Return the manifest's URI with its version as the fragment, or None when there is no manifest.

        Costs no download: two equal URIs mean the same bytes.
        """

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """Return the manifest, or None when there is none. Raises ManifestError above MAX_MANIFEST_BYTES.

        ``uri`` names exactly the version whose bytes are in ``data``.
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
