"""The graph, read top to bottom; it decides the order and computes nothing.

luigi --module pipeline.tasks IngestDaily
luigi --module pipeline.tasks IngestSnapshot --network torus --processing-date 2025-08-01 --window-days 195
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from datetime import date
from functools import cached_property
from typing import Any

import luigi
from loguru import logger

from pipeline import journal, missing, page, parameters, process, progress, signals, spool, steps, targets
from pipeline.attempts import with_attempts
from pipeline.context import context
from pipeline.errors import PipelineError, SourceUnavailableError
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, TABLES, Table
from pipeline.warehouse.claims import Claim
from pipeline.warehouse.steplog import State

#: The urgency of a day's ordinary run: more than that of any day of a range, and short enough for luigid's page.
TODAY = 10_000


class SnapshotTask(luigi.Task):
    """A step for one snapshot: what it needs, what proves it, one call."""

    network: str = parameters.network()
    processing_date: date = parameters.processing_date()
    window_days: int = parameters.window_days()
    urgency: int = parameters.urgency()

    done = "Done"  #: the log event after the step, in the past tense

    @property
    def priority(self) -> float:  # type: ignore[override]  # luigi takes an attribute or a property
        """A snapshot of more urgency is finished before one of less is begun."""
        return self.urgency

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the step is for."""
        return Snapshot(self.network, self.processing_date, self.window_days)

    @property
    def step(self) -> str:
        """The step's name, with the table where it is about one."""
        return self.task_family

    def complete(self) -> bool:
        """Ask the target; while a service is unavailable, wait for the next attempt."""
        journal.ask(self.snapshot)
        with self._telling("Could not tell whether the step is done"):
            return self._attempts(super().complete)

    def run(self) -> None:
        """Do the step, unless another process of this host did it while we waited for it."""
        with self._telling("Step failed"), context().workspace(self.snapshot).lock(self.step):
            if self.complete():
                return
            page.link(self, context().settings.report_url, self.snapshot)
            started = time.monotonic()
            facts = self._attempts(self.work)
            logger.bind(**facts, seconds=round(time.monotonic() - started, 3)).info(self.done)
            self._record("done", started, facts=facts)

    def work(self) -> steps.Facts:
        """Do the step and return what its log event tells."""
        raise NotImplementedError(self.task_family)

    def on_failure(self, exception: BaseException) -> str:
        """Return what luigid's page shows: what happened and what to do, as in the log."""
        if isinstance(exception, PipelineError):
            return f"{exception}\n{exception.hint}"
        return str(super().on_failure(exception))

    def report(self, done: int, total: int | None, note: str = "") -> None:
        """Tell luigi's page how far the step is, where somebody knows."""
        page.show(self, done, total, note)

    @property
    def reporter(self) -> Any:
        """What a step calls with bytes done and in all."""
        return progress.reporter(str(self.snapshot), self.step, self.report)

    def _attempts(self, call: Any) -> Any:
        settings = context().settings
        return with_attempts(call, attempts=settings.retry_attempts, delay=settings.retry_delay)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Put the snapshot and the step on every event; tell an error on one line with what to do, and record it."""
        table, started = getattr(self, "table", None), time.monotonic()
        with logger.contextualize(
            network=self.network,
            date=self.processing_date.isoformat(),
            window=self.window_days,
            step=self.task_family,
            table=table,
        ):
            try:
                with signals.work():
                    yield
            except BaseException as error:
                if not getattr(error, "told", False):
                    error.told = True  # type: ignore[attr-defined]  # complete() inside run() passes here twice
                    if isinstance(error, PipelineError):
                        logger.bind(hint=error.hint).error("{}: {}", what, error)
                    self._record("failed", started, error=error)
                if isinstance(error, KeyboardInterrupt) and signals.is_worker():
                    signals.end_worker(error)
                raise

    def _record(
        self, state: State, started: float, *, facts: steps.Facts | None = None, error: BaseException | None = None
    ) -> None:
        """Record what became of the step since ``started`` on the monotonic clock."""
        step = (self.task_family, getattr(self, "table", ""))
        spool.keep(context(), spool.record_of(context(), self.snapshot, step, state, started, facts, error))


class FindSnapshot(luigi.ExternalTask, SnapshotTask):  # type: ignore[misc]  # an external task has no run()
    """Upstream's: META.json is at the source."""

    def output(self) -> luigi.Target:
        return targets.ReadySnapshot(context(), self.snapshot)

    def complete(self) -> bool:
        """Look; when it is not there say what is missing, for nothing after this step runs.

        luigi asks only when steps are to be done, and before it forks a process for each of them.
        """
        found: bool = super().complete()
        if not found:
            with self._telling("Could not find the snapshot"):
                what, hint = context().source.absence(self.snapshot)
                none = SourceUnavailableError(f"no {what} at {context().source.uri}", hint=hint)
                logger.bind(hint=hint).error("Found {}", none)
                self._record("missing", time.monotonic(), error=none)
        else:
            steps.prepare()
        return found


class DownloadManifest(SnapshotTask):
    """META.json on disk, its digest recorded."""

    done = "Downloaded manifest"

    def requires(self) -> luigi.Task:
        return self.clone(FindSnapshot)

    def output(self) -> luigi.Target:
        return targets.ManifestOnDisk(context(), self.snapshot)

    def work(self) -> steps.Facts:
        return steps.download_manifest(context(), self.snapshot, self.reporter)


class ValidateManifest(SnapshotTask):
    """META.json parsed: right network, date and window, four files named, safe names."""

    done = "Validated manifest"

    def requires(self) -> luigi.Task:
        return self.clone(DownloadManifest)

    def output(self) -> luigi.Target:
        return targets.ValidManifest(context(), self.snapshot)

    def work(self) -> steps.Facts:
        return steps.validate_manifest(context(), self.snapshot)


class TableTask(SnapshotTask):
    """A step for one table of a snapshot; the table with the most rows goes first."""

    table: str = luigi.ChoiceParameter(choices=list(BY_NAME))

    @property
    def priority(self) -> float:  # type: ignore[override]  # luigi takes an attribute or a property
        """Within a snapshot features first, which are as large as all others together."""
        return super().priority + (0.5 if self.table == "raw_features" else 0)

    @property
    def step(self) -> str:
        """The step's name and its table."""
        return f"{self.task_family} {self.table}"

    @property
    def table_facts(self) -> Table:
        """What the pipeline knows about the table."""
        return BY_NAME[self.table]


class DownloadFile(TableTask):
    """One file on disk, its bytes those that the manifest lists."""

    done = "Downloaded file"
    resources = {"downloads": 1}  # noqa: RUF012  # luigi copies it

    def requires(self) -> luigi.Task:
        return self.clone(ValidateManifest)

    def output(self) -> luigi.Target:
        return targets.FileOnDisk(context(), self.snapshot, self.table_facts)

    def work(self) -> steps.Facts:
        return steps.download_file(context(), self.snapshot, self.table_facts, self.reporter)


class ValidateFile(TableTask):
    """One file: size, Parquet, columns, rows."""

    done = "Validated file"

    def requires(self) -> luigi.Task:
        return self.clone(DownloadFile)

    def output(self) -> luigi.Target:
        return targets.ValidFile(context(), self.snapshot, self.table_facts, "validate-file")

    def work(self) -> steps.Facts:
        return steps.validate_file(context(), self.snapshot, self.table_facts)


class ValidateChecksum(TableTask):
    """SHA-256 of one file, read from disk."""

    done = "Validated checksum"

    def requires(self) -> luigi.Task:
        return self.clone(ValidateFile)

    def output(self) -> luigi.Target:
        return targets.ValidFile(context(), self.snapshot, self.table_facts, "validate-checksum")

    def work(self) -> steps.Facts:
        return steps.validate_checksum(context(), self.snapshot, self.table_facts, self.reporter)


class LoadTable(TableTask):
    """One file's rows in the warehouse under a new load_id, counted and compared; invisible to readers."""

    done = "Loaded table"

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]  # luigi takes an attribute or a property
        """luigi.cfg says how many loads into a server, and how many downloads, are at work at a time."""
        chosen, usual = context().settings, context().settings.clickhouse_host
        server = chosen.server(self.network)
        return {"loads" if server is None or server.host == usual else f"loads {server.host}:{server.port}": 1}

    def requires(self) -> luigi.Task:
        return self.clone(ValidateChecksum)

    def output(self) -> luigi.Target:
        return targets.TableLoad(context(), self.snapshot, self.table_facts)

    def work(self) -> steps.Facts:
        return steps.load_table(context(), self.snapshot, self.table_facts, self.reporter)


class PublishSnapshot(SnapshotTask):
    """One single-row INSERT: readers see all four tables."""

    done = "Published snapshot"

    def requires(self) -> list[luigi.Task]:
        return [self.clone(LoadTable, table=table.name) for table in TABLES]

    def output(self) -> luigi.Target:
        return targets.PublishedSnapshot(context(), self.snapshot)

    def work(self) -> steps.Facts:
        return steps.publish_snapshot(context(), self.snapshot)


class CleanUp(SnapshotTask):
    """Work files gone."""

    done = "Cleaned up"

    def requires(self) -> luigi.Task:
        return self.clone(PublishSnapshot)

    def output(self) -> luigi.Target:
        return targets.CleanedUp(context(), self.snapshot)

    def work(self) -> steps.Facts:
        facts = steps.clean_up(context(), self.snapshot)
        if claims := context().claims:
            claims.release(self.snapshot)
        return facts


class IngestSnapshot(luigi.WrapperTask, SnapshotTask):
    """All of the above for one network."""

    def complete(self) -> bool:
        """Ask the last step; whoever finds something to load or to publish claims the snapshot first.

        luigi asks before it hands the steps to its scheduler, which may be one that several hosts share: it would
        give this host a step whose input is on another one's disk. So another deployment's work is waited for here.
        """
        if super().complete():
            return True
        claims = context().claims
        if claims is None or signals.is_worker() or self.clone(PublishSnapshot).complete():
            return False
        with self._telling("Could not claim the snapshot"):
            while not claims.hold(self.snapshot):
                if super().complete():
                    return True
        return False

    def run(self) -> None:
        """Do nothing: luigi has just asked the last step."""

    def other(self) -> Claim | None:
        """Return the claim of another deployment that is at work. Raises WarehouseError, which the log has told."""
        claims = context().claims
        with self._telling("Could not tell who is at work on the snapshot"):
            return claims.other(self.snapshot) if claims else None

    def requires(self) -> luigi.Task:
        return self.clone(CleanUp)

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[tuple[str, date, int]]) -> list[tuple[str, date, int]]:
        """Return those that are published, with one query a network; the source is not asked."""
        keys = {Snapshot(*key): key for key in parameter_tuples}
        return [keys[snapshot] for snapshot in missing.settled_ones(context(), keys)]


class IngestDaily(luigi.WrapperTask):
    """A day of all configured networks."""

    processing_date: date = parameters.processing_date()
    window_days: int = parameters.window_days()
    networks: tuple[str, ...] = parameters.networks()

    priority = TODAY

    def requires(self) -> list[luigi.Task]:
        return [self.clone(IngestSnapshot, network=network, urgency=TODAY) for network in self.networks]


class IngestRange(luigi.WrapperTask):
    """The days of a range that are not published, one after another; today's runs go before them."""

    first: date = parameters.day_of_range("--first (UTC day to begin with)")
    last: date = parameters.day_of_range("--last (UTC day to end with)")
    window_days: int = parameters.window_days()
    networks: tuple[str, ...] = parameters.networks()
    reverse: bool = luigi.BoolParameter(description="the newest day first")
    check_source: bool = luigi.BoolParameter(description="look whether upstream published a published day anew")

    def requires(self) -> list[luigi.Task]:
        ordered = sorted(self._to_do, key=lambda snapshot: snapshot.processing_date, reverse=self.reverse)
        return [
            IngestSnapshot(*astuple(snapshot), urgency=len(ordered) - place) for place, snapshot in enumerate(ordered)
        ]

    def complete(self) -> bool:
        """One query a network, where luigi would ask for each snapshot."""
        return not missing.missing(context(), self._to_do, check_source=self.check_source)

    @cached_property
    def _to_do(self) -> list[Snapshot]:
        asked = missing.snapshots_of(self.networks, self.first, self.last, self.window_days)
        return missing.missing(context(), asked, check_source=self.check_source)


if process.is_luigi_command():
    process.take_over_luigi()
