"""Files that survive a crash: written whole, synced, then renamed; and the proofs that steps leave."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.errors import WorkDirectoryError

PIECE = 1 << 20  #: bytes read or written at once


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an OSError about a file of ours into WorkDirectoryError."""
    try:
        yield
    except OSError as error:
        raise WorkDirectoryError(
            f"{path}: {error.strerror or error}",
            hint="see that WORK_PATH is writable by this user and that its disk is not full",
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes ``path``'s place when the block ends well: synced, renamed, the directory synced.

    When the block fails the file is removed and ``path`` is as it was. Raises WorkDirectoryError.
    """
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_directory(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(*paths: Path) -> None:
    """Remove files that may or may not be there. Raises WorkDirectoryError."""
    for path in paths:
        with reported(path):
            path.unlink(missing_ok=True)


def remove_directory(path: Path, *, below: Path) -> None:
    """Remove a directory, and those between it and ``below`` that this leaves empty. Raises WorkDirectoryError."""
    with reported(path):
        if path.exists():
            shutil.rmtree(path)
        for parent in path.parents:
            if parent == below or not parent.is_dir() or any(parent.iterdir()):
                return
            parent.rmdir()


def pieces(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in pieces of 1 MiB. Raises WorkDirectoryError."""
    with reported(path), path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def sha256_of(path: Path, report: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file as lower-case hex; ``report`` is told of bytes read. Raises WorkDirectoryError."""
    digest = hashlib.sha256()
    for piece in pieces(path):
        digest.update(piece)
        report(len(piece))
    return digest.hexdigest()


def write_proof(path: Path, facts: dict[str, Any]) -> None:
    """Write a marker: one small JSON object. Raises WorkDirectoryError."""
    with replacing(path) as file:
        file.write(json.dumps(facts, indent=2, sort_keys=True).encode())


def read_proof(path: Path) -> dict[str, Any] | None:
    """Return a marker's facts, or None when there is no marker or it is not whole. Raises WorkDirectoryError."""
    with reported(path):
        try:
            facts = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
    return facts if isinstance(facts, dict) else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between the processes of this host; waits for it. Raises WorkDirectoryError.

    The lock's file goes with its last holder; one who waited for a file that is gone tries the next.
    """
    while True:
        with reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)
