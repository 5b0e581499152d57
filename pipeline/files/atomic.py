"""Files that survive a crash: written whole, synced, then renamed; and the proofs that steps leave."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from pipeline.errors import WorkDirectoryError

PIECE = 1 << 20  #: bytes read or written at once

#: How long a lock is waited for, and between two looks. A step's is held by a process of a run that ended, while that
#: clears up.
LOCK_SECONDS, LOCK_POLL_SECONDS = 300.0, 0.05


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
        part = _part_of(path)
        try:  # before there is a file: an interrupt may come at any moment
            with os.fdopen(create_file(part), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_directory(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}.part")


def create_file(path: Path) -> int:
    """Create a file for this user alone and return its descriptor. Raises OSError, also when it is there."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@contextmanager
def linking(path: Path, existing: Path) -> Iterator[IO[bytes]]:
    """The same with a second name for ``existing``, a file of ours: what is written to the one yielded is not kept.

    Where the file system has no links, what is written is the file. Raises WorkDirectoryError.
    """
    part = _part_of(path)
    try:
        part.hardlink_to(existing)
    except OSError:
        placed = replacing(path)
    else:
        placed = _renamed(part, path)
    with placed as file:
        yield file


@contextmanager
def _renamed(part: Path, path: Path) -> Iterator[IO[bytes]]:
    with reported(path):
        try:
            with Path(os.devnull).open("wb") as nowhere:
                yield nowhere
            part.replace(path)
            _sync_directory(path.parent)
        finally:
            part.unlink(missing_ok=True)  # still there where both were names of one file already: rename(2)


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
    """Return the SHA-256 of a file, lower-case hex; ``report`` is called with bytes read. Raises WorkDirectoryError."""
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
    """Hold an exclusive lock between the processes of this host; waits for it up to LOCK_SECONDS.

    The lock's file goes with its last holder; one who waited for a file that is gone tries the next. Raises
    WorkDirectoryError.
    """
    end = time.monotonic() + LOCK_SECONDS
    while True:
        with reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _wait_for_lock(handle, path, end)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)


def _wait_for_lock(handle: int, path: Path, end: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise WorkDirectoryError(
                    f"{path}: another process has held this lock for {LOCK_SECONDS:g} s",
                    hint="it is left of a run that ended: fuser names the process; end it and run again",
                ) from None
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return


@contextmanager
def held_by_process(path: Path) -> Iterator[bool]:
    """Hold a lock of this process alone, not of those that it forks; False at once when another process has it.

    Raises WorkDirectoryError.
    """
    while True:
        with reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # POSIX leaves open which
                yield False
                return
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                try:
                    yield True
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)
