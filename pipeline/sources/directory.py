"""Snapshots in a local directory that is laid out like the bucket."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import FileError, SourceError, SourceUnavailableError
from pipeline.manifest import MAX_MANIFEST_BYTES
from pipeline.snapshot import MANIFEST_NAME, Snapshot
from pipeline.sources import PIECE_BYTES, ManifestAtSource, ManifestText, RemoteFile, newest_first, too_large
from pipeline.tables import TABLES, Table

_ROOT_HINT = "check SOT_PATH: it must name a directory that this user can read"
_ACCESS_HINT = "let the user that runs the pipeline read everything under SOT_PATH"
_KEY_HINT = "only files under SOT_PATH are read: remove the symbolic link, or mount the data there"
_DISK_HINT = "run again later; if it lasts, check the disk or the mount under SOT_PATH"
_CHANGED_HINT = "SOT_PATH is being written to: run again when that has finished"

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR})


class DirectorySource(ManifestAtSource):
    """Reads files under ``path``, and only there: a link that leads out is refused.

    A disk that fails is reported at once (SourceUnavailableError), not tried again as a network is.
    """

    def __init__(self, path: Path, *, tables: Sequence[Table] = TABLES) -> None:
        self._root = path
        self.tables = tables

    @property
    def uri(self) -> str:
        """file:///path, absolute, links resolved."""
        return self._root.resolve().as_uri()

    def manifest_uri(self, snapshot: Snapshot) -> str | None:
        """One stat; the fragment is modification time (ns), size (bytes) and inode."""
        file = self.find(snapshot.manifest_key)
        return None if file is None else self._manifest_uri(file)

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """See Source.read_manifest. Raises SourceUnavailableError when it changes while it is read."""
        file = self.find(snapshot.manifest_key)
        if file is None:
            return None
        if file.size > MAX_MANIFEST_BYTES:
            raise too_large(self._manifest_uri(file))
        try:
            return ManifestText(b"".join(self.read(file)), self._manifest_uri(file))
        except FileError as error:  # of a file that was just found: it is being written
            raise SourceUnavailableError(str(error), hint=error.hint) from None

    def find(self, key: str) -> RemoteFile | None:
        """One stat; the version is modification time (ns), size (bytes) and inode. A folder is no object."""
        with self._explained(key):
            try:
                facts = self._path(key).stat()
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                self._require_root()
                return None
        return RemoteFile(key, facts.st_size, _version(facts)) if stat.S_ISREG(facts.st_mode) else None

    def read(self, file: RemoteFile) -> Iterator[bytes]:
        """See Source.read; before the first byte and after the last it must be the file that was found."""
        with self._open(file) as stream:
            self._check(file, stream)
            left = file.size
            while left:
                with self._explained(file.key):
                    piece = stream.read(min(PIECE_BYTES, left))
                if not piece:
                    break
                left -= len(piece)
                yield piece
            self._check(file, stream)
        if left:  # the same size says stat, and yet it ends: a file system that is not one
            raise FileError(f"{file.key} ends {left} bytes before {file.size}", hint=_DISK_HINT)

    def manifests(self, network: str) -> Iterator[Snapshot]:
        """Two levels of ``snapshots/{network}/``, and one stat per manifest."""
        self._require_root()
        return newest_first(self._manifest_keys(f"snapshots/{network}"))

    def _manifest_keys(self, folder: str) -> Iterator[str]:
        for day in self._names(folder):
            for window in self._names(f"{folder}/{day}"):
                key = f"{folder}/{day}/{window}/{MANIFEST_NAME}"
                if self.find(key) is not None:
                    yield key

    def _names(self, folder: str) -> list[str]:
        with self._explained(folder):
            try:
                return sorted(entry.name for entry in self._path(folder).iterdir())
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                return []

    def _manifest_uri(self, file: RemoteFile) -> str:
        return f"{(self._root.resolve() / file.key).as_uri()}#{file.version}"

    def _open(self, file: RemoteFile) -> BinaryIO:
        with self._explained(file.key):
            try:
                # Not blocking: a pipe that took the file's place would hold the run for ever.
                return os.fdopen(os.open(self._path(file.key), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                self._require_root()
                raise FileError(f"{file.key} is gone since it was found", hint=_CHANGED_HINT) from None

    def _check(self, file: RemoteFile, stream: BinaryIO) -> None:
        with self._explained(file.key):
            version = _version(os.fstat(stream.fileno()))
        if version != file.version:
            raise FileError(f"{file.key} is {version}, was {file.version} when found", hint=_CHANGED_HINT)

    def _path(self, key: str) -> Path:
        root = self._root.resolve()
        path = (root / key).resolve()
        if not path.is_relative_to(root):
            raise SourceError(f"{key} leads out of {root}, to {path}", hint=_KEY_HINT)
        return path

    def _require_root(self) -> None:
        with self._explained(""):
            try:
                with os.scandir(self._root):
                    return
            except OSError as error:
                if error.errno not in _ABSENT | _REFUSED:
                    raise
                raise SourceError(f"{self._root}: {error.strerror}", hint=_ROOT_HINT) from None

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Raise the operating system's errors as ours."""
        try:
            yield
        except OSError as error:
            text = f"{self._root / key}: {error.strerror or error}"
            if error.errno in _REFUSED:
                raise SourceError(text, hint=_ACCESS_HINT) from error
            raise SourceUnavailableError(text, hint=_DISK_HINT) from error
        except (RuntimeError, ValueError) as error:  # pathlib's words for a circle of links, and for a NUL
            raise SourceError(f"{self._root / key!r}: {error}", hint=_KEY_HINT) from error


def _version(facts: os.stat_result) -> str:
    return f"{facts.st_mtime_ns}-{facts.st_size}-{facts.st_ino}"
