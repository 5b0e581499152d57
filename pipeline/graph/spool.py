"""Records of steps on their way to the warehouse: sent within a second, and kept in files while it does not take them.

A dead warehouse must not lose the cause of a failure: what waits goes with the next record that succeeds, and at the
end of the run. That a record could not be sent never fails a step.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from loguru import logger

from pipeline.errors import PipelineError
from pipeline.files import atomic
from pipeline.graph import journal
from pipeline.graph.context import QUICK_SECONDS, Context
from pipeline.snapshot import Snapshot
from pipeline.warehouse import step_log
from pipeline.warehouse.step_log import StepRecord, StepState, step_of

QUIET_SECONDS = 60  #: after a record that was not taken, further ones wait without asking
MOST, AT_ONCE = 1_000, 50  #: files that wait, and of them in one INSERT
EVERY_SECONDS, LAST_SECONDS = 1.0, 30.0  #: between two INSERTs of a run, and for its last


def record_of(
    context: Context,
    snapshot: Snapshot,
    step: tuple[str, str],
    state: StepState,
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


def record_step(context: Context, record: StepRecord) -> None:
    """Tell the end of the run what a step did, and the warehouse: soon, or now when nothing is :func:`sending`.

    A failure to do so is a warning.
    """
    is_told = _is_sending(context)
    try:
        journal.append_record(record)
    except OSError as error:  # no memory, or no room on the disk where there are no files in memory
        logger.warning("Could not tell the end of the run what a step did: {}", error)
        is_told = False
    if not is_told:
        send_or_store(context, [record])


def _is_sending(context: Context) -> bool:
    return journal.is_open() and not context.is_embedded


@contextmanager
def sending(context: Context, kept: journal.Journal) -> Iterator[None]:
    """Send what the run's steps tell, from one process, once a second at the most: an INSERT costs what a step costs.

    Embedded ClickHouse is not asked from a second thread: there each step tells it.
    """
    if not _is_sending(context):
        yield
        return
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(EVERY_SECONDS):
            send_or_store(context, kept.take())
        send_or_store(context, kept.take())

    thread = threading.Thread(target=send, name="spool", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LAST_SECONDS)


def send_or_store(context: Context, records: Sequence[StepRecord]) -> None:
    """Send records to their warehouses, or keep them in files; a failure to do so is a warning."""
    for network in dict.fromkeys(record.snapshot.network for record in records):
        own = [record for record in records if record.snapshot.network == network]
        try:
            directory = _directory(context, network)
            if _is_quiet(directory):
                _store(directory, own)
            else:
                _send(context, network, own)
        except Exception as error:  # noqa: BLE001  # whatever it is: the steps are done, or have failed of something else
            logger.bind(hint=getattr(error, "hint", None)).warning("Could not record steps: {}", error)


def _send(context: Context, network: str, records: Sequence[StepRecord]) -> None:
    try:
        flush(context, network)
        step_log.insert_records(context.warehouse(network, timeout=QUICK_SECONDS), *records)
    except PipelineError as error:
        directory = _directory(context, network)
        _store(directory, records)
        logger.bind(network=network, hint="they are sent when the warehouse takes them").warning(
            "Could not record steps, which wait in {}: {}", directory, error
        )


def flush(context: Context, network: str) -> None:
    """Send what waits. Raises WarehouseError, WorkDirectoryError."""
    directory = _directory(context, network)
    waiting = _waiting(directory)
    for start in range(0, len(waiting), AT_ONCE):
        paths = waiting[start : start + AT_ONCE]
        found = [record for path in paths if (record := _read(path))]
        step_log.insert_records(context.warehouse(network, timeout=QUICK_SECONDS), *found)
        atomic.remove(*paths)
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


def _store(directory: Path, records: Sequence[StepRecord]) -> None:
    """Write records into files, and make room for them."""
    for record in records:
        atomic.remove(*_waiting(directory)[: -MOST + 1])
        name = f"{time.time_ns()}-{os.getpid()}.json"
        atomic.write_proof(directory / name, record.as_dict())


def _read(path: Path) -> StepRecord | None:
    """Return the record in a file, or None when it is not whole, or another version's."""
    try:
        return step_of(atomic.read_proof(path) or {})
    except (KeyError, TypeError, ValueError):
        return None
