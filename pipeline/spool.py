"""Records of steps on their way to the warehouse: sent at once, and kept in files while it does not take them.

A dead warehouse must not lose the cause of a failure: what waits goes with the next record that succeeds, and at the
end of the run. That a record could not be sent never fails a step.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from loguru import logger

from pipeline import files, journal
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.snapshot import Snapshot
from pipeline.warehouse import steplog
from pipeline.warehouse.steplog import State, StepRecord, step_of

QUIET_SECONDS = 60  #: after a record that was not taken, further ones wait without asking
MOST, AT_ONCE = 1_000, 50  #: files that wait, and records in one INSERT


def record_of(
    context: Context,
    snapshot: Snapshot,
    step: tuple[str, str],
    state: State,
    started: float | None = None,
    facts: Mapping[str, Any] | None = None,
    error: BaseException | None = None,
) -> StepRecord:
    """Return the record of a step, its name and table, that began at ``started`` on the monotonic clock, or now."""
    seconds = 0.0 if started is None else time.monotonic() - started
    kind = "" if isinstance(error, PipelineError) else f"{type(error).__name__}: "
    return StepRecord(
        snapshot=snapshot,
        step=step[0],
        table=step[1],
        state=state,
        started_at=datetime.now(UTC) - timedelta(seconds=seconds),
        seconds=round(seconds, 3),
        facts=dict(facts or {}),
        error=f"{kind}{error}" if error else "",
        hint="a rerun goes on from here" if isinstance(error, KeyboardInterrupt) else getattr(error, "hint", ""),
        run_id=context.run_id,
    )


def keep(context: Context, record: StepRecord) -> None:
    """Tell the end of the run and the warehouse what a step did; a failure to do so is a warning."""
    try:
        journal.keep(record)
        directory = _directory(context, record.snapshot.network)
        if _is_quiet(directory):
            _store(directory, record)
        else:
            _send(context, record, directory)
    except Exception as error:  # noqa: BLE001  # whatever it is: the step is done, or has failed of something else
        logger.bind(hint=getattr(error, "hint", None)).warning("Could not record the step: {}", error)


def _send(context: Context, record: StepRecord, directory: Path) -> None:
    network = record.snapshot.network
    try:
        flush(context, network)
        steplog.record(context.warehouse(network, patient=False), record)
    except PipelineError as error:
        _store(directory, record)
        logger.bind(hint="it is sent when the warehouse takes it").warning(
            "Could not record the step, which waits in {}: {}", directory, error
        )


def flush(context: Context, network: str) -> None:
    """Send what waits. Raises WarehouseError, WorkDirectoryError."""
    directory = _directory(context, network)
    waiting = _waiting(directory)
    for start in range(0, len(waiting), AT_ONCE):
        paths = waiting[start : start + AT_ONCE]
        found = [record for path in paths if (record := _read(path))]
        steplog.record(context.warehouse(network, patient=False), *found)
        files.remove(*paths)
    if waiting:
        with contextlib.suppress(OSError):  # another process may have put something there
            directory.rmdir()
            directory.parent.rmdir()


def _directory(context: Context, network: str) -> Path:
    return context.settings.work_path.absolute() / "spool" / network


def _waiting(directory: Path) -> list[Path]:
    """Return the files that wait, the oldest first."""
    return sorted(directory.glob("*.json"))


def _is_quiet(directory: Path) -> bool:
    """Tell whether the warehouse did not take a record a moment ago."""
    waiting = _waiting(directory)
    try:
        return bool(waiting) and time.time() - waiting[-1].stat().st_mtime < QUIET_SECONDS
    except FileNotFoundError:  # sent meanwhile
        return False


def _store(directory: Path, record: StepRecord) -> None:
    """Write a record into a file, and make room for it."""
    files.remove(*_waiting(directory)[: -MOST + 1])
    name = f"{time.time_ns()}-{os.getpid()}.json"
    files.write_proof(directory / name, record.as_dict())


def _read(path: Path) -> StepRecord | None:
    """Return the record in a file, or None when it is not whole, or another version's."""
    try:
        return step_of(files.read_proof(path) or {})
    except (KeyError, TypeError, ValueError):
        return None
