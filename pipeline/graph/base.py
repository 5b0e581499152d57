"""A task of the graph: the snapshot that it is for, the lock that it holds, what it tells and records."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import luigi
from loguru import logger

from pipeline.errors import HeldError, PipelineError
from pipeline.graph import interrupts, luigid_page, parameters, progress, step_records, steps
from pipeline.graph.answers import Kind
from pipeline.graph.context import get_context
from pipeline.graph.progress import Progress
from pipeline.retry import PostponedError, retry_step
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, Table
from pipeline.warehouse.step_log import StepState


class SnapshotTask(luigi.Task):
    """A task for one snapshot: what it needs, and what proves it."""

    network: str = parameters.network()
    processing_date: date = parameters.processing_date()
    window_days: int = parameters.window_days()
    snapshot_priority: int = parameters.snapshot_priority()

    @property
    def priority(self) -> float:  # type: ignore[override]  # luigi takes an attribute or a property
        """A snapshot of a higher priority is finished before one of a lower priority is begun."""
        return self.snapshot_priority

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the step is for."""
        return Snapshot(self.network, self.processing_date, self.window_days)

    @property
    def step(self) -> str:
        """The step's name, with the table where it is about one."""
        return self.task_family

    @property
    def is_small(self) -> bool:
        """Whether it takes less than a process of its own would cost."""
        return True

    def check(self) -> bool:
        """Ask complete() as a run does: wait for a service that is unavailable, report and record an error."""
        with self.report_errors("Could not tell whether the step is done"):
            return self._attempts(self.complete)

    def on_failure(self, exception: BaseException) -> str:
        """Return what luigid's page shows: what to do and what happened, as in the log, and how to run it again."""
        what, hint = str(super().on_failure(exception)), "this is a bug: the log says more"
        if isinstance(exception, PipelineError):
            what, hint = str(exception), exception.hint
        return luigid_page.failure(self.snapshot, get_context().settings.window_days, what, hint)

    def report(self, done: int, total: int | None, note: str = "") -> None:
        """Tell luigi's page how far the step is, where that is known."""
        luigid_page.show(self, done, total, note)

    @property
    def reporter(self) -> Any:
        """What a step calls with bytes done and in all."""
        return progress.reporter(self.snapshot.label, self.step, self.report)

    def _attempts(self, call: Callable[[], Any]) -> Any:
        settings = get_context().settings
        return retry_step(
            lambda: get_context().try_hosts(self.network, call),
            attempts=settings.retry_attempts,
            delay=settings.retry_delay,
        )

    @contextmanager
    def report_errors(self, what: str) -> Iterator[None]:
        """Put the snapshot and the step on every event; tell an error on one line with what to do, and record it."""
        table, started = getattr(self, "table", None), time.monotonic()
        with logger.contextualize(**self.snapshot.log_fields, step=self.task_family, table=table):
            try:
                with interrupts.work():
                    yield
            except PostponedError:
                raise
            except BaseException as error:
                if not getattr(error, "is_reported", False):
                    error.is_reported = True  # type: ignore[attr-defined]  # check() inside run() passes here twice
                    if isinstance(error, PipelineError):
                        for line in error.lines:
                            logger.bind(hint=error.hint).error("{}: {}", what, line)
                    self.record("held" if isinstance(error, HeldError) else "failed", started, error=error)
                if isinstance(error, KeyboardInterrupt) and interrupts.is_worker():
                    interrupts.end_worker(error)
                raise

    def record(
        self, state: StepState, started: float, *, facts: steps.Facts | None = None, error: BaseException | None = None
    ) -> None:
        """Record what became of the step since ``started`` on the monotonic clock."""
        step = (self.task_family, getattr(self, "table", ""))
        record = step_records.record_of(get_context(), self.snapshot, step, state, started, facts, error)
        step_records.record_step(get_context(), record)
        progress.send(Progress(self.snapshot.label, record.title, state))


class StepTask(SnapshotTask):
    """A step that a run does itself."""

    writes: Kind | None = None  #: the rows of which the warehouse has others afterwards
    done = "Done"  #: the log event after the step, in the past tense

    def run(self) -> None:
        """Do the step, unless another process of this host did it while we waited for it."""
        with self.report_errors("Step failed"), get_context().workspace(self.snapshot).lock(self.step):
            if self.check():
                return
            luigid_page.link(self, get_context().settings.report_url, self.snapshot)
            started = time.monotonic()
            progress.send(Progress(self.snapshot.label, self.step, "running"))
            try:
                facts = self._attempts(self.work)
            finally:
                if self.writes:
                    get_context().answers.forget(self.writes)
            logger.bind(**facts, seconds=round(time.monotonic() - started, 3)).info(self.done)
            self.record("done", started, facts=facts)

    @abstractmethod
    def work(self) -> steps.Facts:
        """Do the step and return what its log event tells."""


class TableTask(StepTask):
    """A step for one table of a snapshot; the table with the most rows goes first."""

    table: str = luigi.ChoiceParameter(choices=list(BY_NAME))

    @property
    def priority(self) -> float:  # type: ignore[override]  # luigi takes an attribute or a property
        """Within a snapshot the largest table first."""
        return super().priority + (0.5 if self.table_facts.is_largest else 0)

    @property
    def is_small(self) -> bool:
        """Whether its file is."""
        return get_context().workspace(self.snapshot).is_small(self.table_facts)

    @property
    def step(self) -> str:
        """The step's name and its table."""
        return f"{self.task_family} {self.table}"

    @property
    def table_facts(self) -> Table:
        """What the pipeline knows about the table."""
        return BY_NAME[self.table]
