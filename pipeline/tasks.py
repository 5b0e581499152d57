"""The graph, read top to bottom; it decides the order and computes nothing.

luigi --module pipeline.tasks IngestDaily
luigi --module pipeline.tasks IngestSnapshot --network torus --processing-date 2025-08-01 --window-days 195
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import astuple
from datetime import date
from functools import cached_property

import luigi
from loguru import logger

from pipeline.errors import PipelineError, SourceUnavailableError
from pipeline.graph import auditing, luigi_program, parameters, remaining, steps, targets
from pipeline.graph.base import SnapshotTask, StepTask, TableTask
from pipeline.graph.context import get_context
from pipeline.graph.retained import wait_until_ready
from pipeline.snapshot import Snapshot

#: The priority of a day's ordinary run: more than that of any day of a range, and short enough for luigid's page.
TODAY = 10_000


class FindSnapshot(luigi.ExternalTask, SnapshotTask):
    """Upstream's: META.json and the files that it lists are at the source."""

    absence: SourceUnavailableError | None = None  #: what was not found, once it was reported

    def output(self) -> luigi.Target:
        return targets.ReadySnapshot(get_context(), self.snapshot)

    def check(self) -> bool:
        """Ask as a run does: wait, too, until it is known whether upstream still writes."""
        with self.report_errors("Could not tell whether the snapshot is there"):
            return bool(self._attempts(lambda: wait_until_ready(get_context(), self.snapshot)))

    def report_missing(self) -> None:
        """Say and record what is missing: no step of the snapshot can run."""
        with self.report_errors("Could not find the snapshot"):
            what, hint = get_context().source.absence(self.snapshot)
            none = self.absence = SourceUnavailableError(f"no {what} at {get_context().source.uri}", hint=hint)
            logger.bind(hint=hint).error("Found {}", none)
            self.record("missing", time.monotonic(), error=none)


class ExportTable(TableTask):
    """One table of the SOT ClickHouse in a file; in the graph only where that is the source."""

    done = "Exported table"
    resources = {"downloads": 1}  # noqa: RUF012  # luigi copies it
    is_small = False  # nobody knows before

    @property
    def priority(self) -> float:  # type: ignore[override]  # luigi takes an attribute or a property
        """The largest table first: all exports come before its load, whose priority luigi gives to each of them."""
        return super().priority + (0.25 if self.table_facts.is_largest else 0)

    def requires(self) -> luigi.Task:
        return self.clone(FindSnapshot)

    def output(self) -> luigi.Target:
        return targets.ExportedTable(get_context(), self.snapshot, self.table_facts)

    def work(self) -> steps.Facts:
        return steps.export_table(get_context(), self.snapshot, self.table_facts, self.reporter)


class WriteManifest(StepTask):
    """META.json of the exported tables, whose rows did not change meanwhile."""

    done = "Wrote manifest"
    is_small = False  # it may export tables

    def requires(self) -> list[luigi.Task]:
        return [self.clone(ExportTable, table=table.name) for table in get_context().settings.tables]

    def output(self) -> luigi.Target:
        return targets.WrittenManifest(get_context(), self.snapshot)

    def work(self) -> steps.Facts:
        return steps.write_manifest(get_context(), self.snapshot, self.reporter)


class DownloadManifest(StepTask):
    """META.json on disk, its digest recorded."""

    done = "Downloaded manifest"

    def requires(self) -> luigi.Task:
        return self.clone(WriteManifest if get_context().sot else FindSnapshot)

    def output(self) -> luigi.Target:
        return targets.ManifestOnDisk(get_context(), self.snapshot)

    def work(self) -> steps.Facts:
        return steps.download_manifest(get_context(), self.snapshot)


class ValidateManifest(StepTask):
    """META.json parsed: right network, date and window, every table's file named, safe names."""

    done = "Validated manifest"

    def requires(self) -> luigi.Task:
        return self.clone(DownloadManifest)

    def output(self) -> luigi.Target:
        return targets.ValidManifest(get_context(), self.snapshot)

    def work(self) -> steps.Facts:
        return steps.validate_manifest(get_context(), self.snapshot)


class DownloadFile(TableTask):
    """One file on disk, its bytes those that the manifest lists."""

    done = "Downloaded file"
    resources = {"downloads": 1}  # noqa: RUF012  # luigi copies it

    def requires(self) -> luigi.Task:
        return self.clone(ValidateManifest)

    def output(self) -> luigi.Target:
        return targets.FileOnDisk(get_context(), self.snapshot, self.table_facts)

    def work(self) -> steps.Facts:
        return steps.download_file(get_context(), self.snapshot, self.table_facts, self.reporter)


class ValidateFile(TableTask):
    """One file: size, Parquet, columns, rows."""

    done = "Validated file"
    is_small = False  # a damaged file may take the process with it that decodes it

    def requires(self) -> luigi.Task:
        return self.clone(DownloadFile)

    def output(self) -> luigi.Target:
        return targets.ValidFile(get_context(), self.snapshot, self.table_facts, "validate-file")

    def work(self) -> steps.Facts:
        return steps.validate_file(get_context(), self.snapshot, self.table_facts)


class ValidateChecksum(TableTask):
    """SHA-256 of one file on disk, which is read again in a later run."""

    done = "Validated checksum"

    @property
    def is_small(self) -> bool:
        """Whether its file is, or is not read."""
        context = get_context()
        return super().is_small or context.workspace(self.snapshot).is_of_run(self.table_facts, context.run_id)

    def requires(self) -> luigi.Task:
        return self.clone(ValidateFile)

    def output(self) -> luigi.Target:
        return targets.ValidFile(get_context(), self.snapshot, self.table_facts, "validate-checksum")

    def work(self) -> steps.Facts:
        return steps.validate_checksum(get_context(), self.snapshot, self.table_facts, self.reporter)


class LoadTable(TableTask):
    """One file's rows in the warehouse under a new load_id, counted and compared; invisible to readers."""

    done = "Loaded table"
    writes = "loads"

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]  # luigi takes an attribute or a property
        """luigi.cfg says how many loads into a server or shard, and how many downloads, are at work at a time."""
        chosen = get_context().settings
        usual, servers = {host.name for host in chosen.clickhouse_host[:1]}, chosen.servers(self.network)
        return {f"loads {servers[0].native}" if servers and servers[0].host not in usual else "loads": 1}

    def requires(self) -> luigi.Task:
        return self.clone(ValidateChecksum)

    def output(self) -> luigi.Target:
        return targets.TableLoad(get_context(), self.snapshot, self.table_facts)

    def work(self) -> steps.Facts:
        return steps.load_table(get_context(), self.snapshot, self.table_facts, self.reporter)


class AuditSnapshot(StepTask):
    """The loads of all tables, compared with what is true of a good snapshot and with the days published before."""

    done = "Audited snapshot"
    writes = "audits"

    def requires(self) -> list[luigi.Task]:
        return [self.clone(LoadTable, table=table.name) for table in get_context().settings.tables]

    def output(self) -> luigi.Target:
        return targets.AuditedLoads(get_context(), self.snapshot)

    def work(self) -> steps.Facts:
        return auditing.audit_snapshot(get_context(), self.snapshot)


class PublishSnapshot(StepTask):
    """One single-row INSERT: readers see all tables."""

    done = "Published snapshot"
    writes = "publications"

    def requires(self) -> luigi.Task:
        return self.clone(AuditSnapshot)

    def output(self) -> luigi.Target:
        return targets.PublishedSnapshot(get_context(), self.snapshot)

    def run(self) -> None:
        """Publish, unless it is published; another host may have done it since this run asked."""
        get_context().answers.forget("publications")
        super().run()

    def work(self) -> steps.Facts:
        return steps.publish_snapshot(get_context(), self.snapshot)


class CleanUp(StepTask):
    """Work files gone."""

    done = "Cleaned up"

    def requires(self) -> luigi.Task:
        return self.clone(PublishSnapshot)

    def output(self) -> luigi.Target:
        return targets.CleanedUp(get_context(), self.snapshot)

    def work(self) -> steps.Facts:
        return steps.clean_up(get_context(), self.snapshot)


class IngestSnapshot(luigi.WrapperTask, SnapshotTask):
    """All of the above for one network."""

    def check(self) -> bool:
        """Ask as a run does, and say when it is not known whether upstream published the snapshot again."""
        with self.report_errors("Could not tell whether the snapshot is ingested"):
            return bool(self._attempts(self._is_current))

    def is_known_to_be_current(self) -> bool:
        """Tell whether it is ingested, asking once: what does not answer is for check() to wait for, and to report."""
        try:
            return bool(get_context().try_hosts(self.network, self._is_current))
        except PipelineError:
            return False

    def _is_current(self) -> bool:
        try:
            return targets.CleanedUp(get_context(), self.snapshot).is_current()
        except SourceUnavailableError as error:
            logger.warning("Could not ask whether upstream published the snapshot again: {}", error)
            return True

    def requires(self) -> luigi.Task:
        return self.clone(CleanUp)

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[tuple[str, date, int]]) -> list[tuple[str, date, int]]:
        """Return those that are published, with one query a network; the source is not asked."""
        keys = {Snapshot(*key): key for key in parameter_tuples}
        return [keys[snapshot] for snapshot in remaining.up_to_date(get_context(), keys)]


class PublishedSnapshot(luigi.ExternalTask, SnapshotTask):
    """For the graphs of others: readers see the snapshot. Our own runs publish it."""

    def output(self) -> luigi.Target:
        return targets.VisibleSnapshot(get_context(), self.snapshot)


class IngestDaily(luigi.WrapperTask):
    """A day of all configured networks."""

    processing_date: date = parameters.processing_date()
    window_days: int = parameters.window_days()
    networks: tuple[str, ...] = parameters.networks()

    priority = TODAY

    def check(self) -> bool:
        """Tell whether nothing is to be done; a network that cannot tell keeps none of the others from their steps."""
        return all(task.is_known_to_be_current() for task in self.requires())

    def requires(self) -> list[IngestSnapshot]:
        return [self.clone(IngestSnapshot, network=network, snapshot_priority=TODAY) for network in self.networks]


class IngestRange(luigi.WrapperTask):
    """The days of a range that are not published, one after another; today's runs go before them."""

    first: date = parameters.day_of_range("--first (UTC day to begin with)")
    last: date = parameters.day_of_range("--last (UTC day to end with)")
    window_days: int = parameters.window_days()
    networks: tuple[str, ...] = parameters.networks()
    reverse: bool = luigi.BoolParameter(description="the newest day first")
    check_source: bool = luigi.BoolParameter(description="look whether upstream published a published day again")

    def requires(self) -> list[luigi.Task]:
        ordered = sorted(self._to_do, key=lambda snapshot: snapshot.processing_date, reverse=self.reverse)
        return [
            IngestSnapshot(*astuple(snapshot), snapshot_priority=len(ordered) - place)
            for place, snapshot in enumerate(ordered)
        ]

    def complete(self) -> bool:
        """One query a network, where luigi would ask for each snapshot."""
        return not remaining.remaining_snapshots(get_context(), self._to_do, check_source=self.check_source)

    @cached_property
    def _to_do(self) -> list[Snapshot]:
        asked = remaining.snapshots_in_range(self.networks, self.first, self.last, self.window_days)
        return remaining.remaining_snapshots(get_context(), asked, check_source=self.check_source)


if luigi_program.is_luigi_command():
    luigi_program.reexec_luigi()
