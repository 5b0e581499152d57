"""What is left in the work directory of snapshots that no run will go on with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from loguru import logger

from pipeline.errors import SourceError
from pipeline.files import atomic
from pipeline.graph.context import Context
from pipeline.graph.targets import PublishedSnapshot
from pipeline.snapshot import Snapshot

#: A file that is written is renamed, and an export is loaded, within this time; one that is older is of a dead run.
DEAD_PART, DEAD_EXPORT = timedelta(days=1), timedelta(days=7)


@dataclass(frozen=True)
class WorkFile:
    """A file or a directory that may be removed."""

    path: Path
    bytes: int
    why: str  #: published, past retention or left over
    snapshot: Snapshot | None = None  #: whose work directory it is


def leftovers(context: Context, oldest: date | None, now: datetime) -> Iterator[WorkFile]:
    """Yield what may be removed. Raises WarehouseError and WorkDirectoryError."""
    root = context.settings.work_path.absolute()
    for snapshot in _snapshots(root):
        workspace = context.workspace(snapshot)
        if oldest is not None and snapshot.processing_date < oldest:
            yield WorkFile(workspace.path, _bytes(workspace.path), "past retention", snapshot)
        elif _is_published(context, snapshot):
            yield WorkFile(workspace.path, _bytes(workspace.path), "published", snapshot)
    for path in sorted(root.rglob("*.part")):
        if _age(path, now) > DEAD_PART:
            yield WorkFile(path, _bytes(path), "left over")
    for path in sorted((root / "export").glob("*/*/*/*")):
        if path.suffix != ".part" and _age(path, now) > DEAD_EXPORT:
            yield WorkFile(path, _bytes(path), "left over")


def remove(context: Context, found: Sequence[WorkFile], left: list[str]) -> Iterator[WorkFile]:
    """Remove files, unless a run of this deployment is at work on their snapshot, and yield those removed."""
    for file in found:
        if file.snapshot is None:
            atomic.remove(file.path)
        else:
            with context.workspace(file.snapshot).run_lock() as is_free:
                if not is_free:
                    left.append(f"{file.path}: a run is at work on it")
                    continue
                context.source.discard(file.snapshot)
                context.workspace(file.snapshot).discard()
        logger.bind(path=str(file.path), bytes=file.bytes, why=file.why).info("Removed work files")
        yield file


def _snapshots(root: Path) -> Iterator[Snapshot]:
    """Yield the snapshots that have a work directory."""
    for path in sorted(root.glob("*/*/*")):
        try:
            snapshot = Snapshot(path.parts[-3], date.fromisoformat(path.parts[-2]), int(path.parts[-1]))
        except ValueError:
            continue  # not the pipeline's
        if path.is_dir() and str(snapshot) == path.relative_to(root).as_posix():
            yield snapshot


def _is_published(context: Context, snapshot: Snapshot) -> bool:
    """Tell whether only CleanUp is missing; no, with a warning, while the source does not let us ask."""
    try:
        return PublishedSnapshot(context, snapshot).exists()
    except SourceError as error:
        logger.bind(hint=error.hint).warning("Left {} alone: {}", context.workspace(snapshot).path, error)
        return False


def _age(path: Path, now: datetime) -> timedelta:
    with atomic.reported(path):
        return now - datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _bytes(path: Path) -> int:
    found = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in found if each.is_file())
