"""What the steps of a run did: one file a run, on its way to ``sot_steps``, and read for the end of the run.

Every process of a run appends to ``WORK_PATH/runs/{start}-{run_id}.jsonl``, one line a record; what the disk does not
take goes into a file in memory. The first process sends what is new once a second, and removes the file when all of it
was taken. What a run left that was killed, or whose warehouse was dead, the next run sends. That a record could not be
stored or sent never fails a step.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from loguru import logger

from pipeline.errors import PipelineError
from pipeline.graph.context import QUICK_SECONDS, Context
from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import StepRecord, StepState, insert_records, step_of

QUIET_SECONDS = 60.0  #: after a warehouse did not take records it is not asked
EVERY_SECONDS, LAST_SECONDS = 1.0, 30.0  #: between two INSERTs of a run, and for its last
MOST, AT_ONCE = 1_000, 50  #: files of earlier runs, the newest; and records of one INSERT

#: What is known of a snapshot beside the records of its steps: no more than that the run is about it; that all of it is
#: done; that another run is at work on it; that something does not answer which would tell whether it is done.
Standing = Literal["requested", "done", "left", "unknown"]


@dataclass
class _File:
    """Records that processes append to, each with one write."""

    handle: int
    taken: int = 0  #: bytes of it that :meth:`take` has returned

    def take(self) -> list[StepRecord]:
        """Return the records since the last call; a line that is not whole, or another version's, is none."""
        data = os.pread(self.handle, os.fstat(self.handle).st_size - self.taken, self.taken)
        data = data[: data.rfind(b"\n") + 1]
        self.taken += len(data)
        found = []
        for line in filter(None, data.split(b"\n")):
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
                found.append(step_of(json.loads(line)))
        return found


@dataclass
class RunRecords:
    """One run's records, and what else its end tells."""

    context: Context
    files: list[_File] = field(default_factory=list)  #: the one on disk, then the one in memory
    paths: list[Path] = field(default_factory=list)  #: of this run's file, and of those that dead runs left
    waiting: list[StepRecord] = field(default_factory=list)  #: to be sent, those of dead runs among them
    standings: dict[Snapshot, Standing] = field(default_factory=dict)  #: of those that this process looked at
    cause: str = ""  #: of an end that is no step's
    hint: str = ""
    is_sending: bool = False  #: whether a thread of the first process sends
    _quiet_until: dict[str, float] = field(default_factory=dict)  #: by network, of the monotonic clock

    @property
    def directory(self) -> Path:
        """Where the files of all runs are."""
        return self.context.settings.work_path.absolute() / "runs"

    def records(self) -> tuple[StepRecord, ...]:
        """Return what the steps of this run did, in the order in which they ended."""
        return tuple(record for file in self.files for record in _File(file.handle).take())

    def append(self, record: StepRecord) -> None:
        """Store what a step did. Raises OSError when there is neither room on the disk nor memory."""
        line = b"\n" + json.dumps(record.as_dict(), default=str).encode() + b"\n"  # a full disk cut the line before
        for file in self.files:
            with contextlib.suppress(OSError):
                if os.write(file.handle, line) == len(line):
                    return
        raise OSError("no room on the disk, nor in memory")

    def send(self) -> None:
        """Send what no warehouse took yet; a failure to do so is a warning."""
        for network in self._networks():
            if time.monotonic() < self._quiet_until.get(network, 0.0):
                continue
            try:
                self.deliver(network)
            except Exception as error:  # noqa: BLE001  # the steps are done, or have failed of something else
                self._quiet_until[network] = time.monotonic() + QUIET_SECONDS
                logger.bind(network=network, hint="they are sent when the warehouse takes them").warning(
                    "Could not record steps, which wait in {}: {}", next(iter(self.paths), "memory"), error
                )

    def _networks(self) -> list[str]:
        """Return the networks whose records wait, those that steps have appended since among them."""
        self.waiting += [record for file in self.files for record in file.take()]
        return list(dict.fromkeys(record.snapshot.network for record in self.waiting))

    def deliver(self, network: str) -> None:
        """Send a network's records. Raises WarehouseError."""
        if network not in self._networks():
            return
        own = [record for record in self.waiting if record.snapshot.network == network]
        for start in range(0, len(own), AT_ONCE):
            insert_records(self.context.warehouse(network, timeout=QUICK_SECONDS), *own[start : start + AT_ONCE])
        self.waiting = [record for record in self.waiting if record.snapshot.network != network]

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send what the run's processes record while the block runs, once a second: an INSERT costs what a step costs.

        Embedded ClickHouse is not asked from a second thread: there each step sends its record.
        """
        if self.context.is_embedded:
            yield
            return
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(EVERY_SECONDS):
                self.send()
            self.adopt()  # of a run that was killed the last process may have ended since
            self.send()

        thread = threading.Thread(target=send, name="step records", daemon=True)
        self.is_sending = True
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(LAST_SECONDS)
            self.is_sending = False

    def adopt(self) -> None:
        """Read the files that dead runs left; of too many the newest."""
        others = sorted(path for path in self.directory.glob("*.jsonl") if path not in self.paths)
        for other in others:
            with contextlib.suppress(OSError), other.open("rb") as file:  # OSError: of a run at work, or another user's
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.paths.append(other)
                self.waiting += _File(file.fileno()).take() if other in others[-MOST:] else []

    def close(self) -> None:
        """Remove the files whose records were all sent, and read no more."""
        self._networks()
        self.files.clear()
        runs = {record.run_id for record in self.waiting}
        for path in self.paths:
            if path.stem.rpartition("-")[2] not in runs:
                with contextlib.suppress(OSError):  # another run removed it, or it is another user's
                    path.unlink()


_run: RunRecords | None = None


@contextmanager
def open_run(context: Context) -> Iterator[RunRecords]:
    """Open the records of a run for this process and those that it forks."""
    global _run  # noqa: PLW0603  # one a process, inherited by forks
    _run = run = RunRecords(context)
    with ExitStack() as stack:
        try:
            _open_files(run, stack)
        except OSError as error:
            logger.warning("Could not open the file for the records of steps: {}", error)
        run.files.append(_File(_memory(stack)))
        try:
            yield run
        finally:
            _run = None
            run.close()


def _open_files(run: RunRecords, stack: ExitStack) -> None:
    """Open the run's file, and read those that dead runs left."""
    run.directory.mkdir(parents=True, exist_ok=True)
    path = run.directory / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{run.context.run_id}.jsonl"
    handle = os.open(path.with_suffix(".new"), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    stack.callback(os.close, handle)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the last process of the run has ended
    path.with_suffix(".new").rename(path)
    run.files.append(_File(handle))
    run.paths.append(path)
    run.adopt()


def _memory(stack: ExitStack) -> int:
    """Return a file that needs no disk, where the system has such files."""
    if not hasattr(os, "memfd_create"):
        return stack.enter_context(tempfile.TemporaryFile()).fileno()
    handle = os.memfd_create("step-records")
    stack.callback(os.close, handle)
    return handle


def is_open() -> bool:
    """Tell whether a run is under way in this process."""
    return _run is not None


def add_requested(snapshot: Snapshot) -> None:
    """Note that the run is about a snapshot."""
    if _run is not None:
        _run.standings.setdefault(snapshot, "requested")


def set_standing(snapshot: Snapshot, standing: Standing) -> None:
    """Note what the run knows of a snapshot that no step tells."""
    if _run is not None:
        _run.standings[snapshot] = standing


def set_cause(cause: str, hint: str) -> None:
    """Note why the run ended when no step can tell."""
    if _run is not None:
        _run.cause, _run.hint = cause, hint


def deliver(network: str) -> None:
    """Send what waits of a network, whether or not its warehouse took anything a moment ago. Raises WarehouseError."""
    if _run is not None:
        _run.deliver(network)


def record_step(context: Context, record: StepRecord) -> None:
    """Tell the end of the run what a step did, and the warehouse: soon, or now where no thread sends.

    A step that no run is about is a run of its own. A failure to do so is a warning.
    """
    try:
        if _run is None:
            with open_run(context):
                record_step(context, record)
            return
        _run.append(record)
        if not _run.is_sending:
            _run.send()
    except Exception as error:  # noqa: BLE001  # the step is done, or has failed of something else
        logger.warning("Could not record a step: {}", error)


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
