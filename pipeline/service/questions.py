"""What can be asked of the service, without HTTP: each question of the warehouse is asked once for all clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pipeline.dates import yesterday
from pipeline.errors import PipelineError, RequestError, did_you_mean
from pipeline.graph.context import QUICK_SECONDS, Context
from pipeline.operations.freshness import Freshness, freshness_of
from pipeline.operations.history import Attempt, attempts_of
from pipeline.operations.report import collected, render
from pipeline.runs.metrics import Sample, build_info, newest_samples
from pipeline.service.answers import Answers
from pipeline.service.models import (
    FreshnessAnswer,
    NetworkFreshness,
    PublicationAnswer,
    RunAnswer,
    RunsAnswer,
    SnapshotAnswer,
    SnapshotsAnswer,
    WorkAnswer,
)
from pipeline.service.state import NetworkState, read_state
from pipeline.snapshot import Snapshot
from pipeline.warehouse.publications import Publication, find_publication
from pipeline.warehouse.step_log import step_records
from pipeline.warehouse.storage import disks, table_sizes

#: Seconds that an answer of the warehouse counts: about what is published, about runs and on the page, about disks.
STATE_SECONDS, RUNS_SECONDS, STORAGE_SECONDS = 2.0, 15.0, 60.0


class NotFoundError(RequestError):
    """What was asked for does not exist."""


@dataclass(frozen=True)
class Days:
    """Processing dates, both included, of snapshots with a window of days."""

    first: date
    last: date
    window_days: int

    def newest_first(self) -> Iterator[date]:
        """Yield the dates."""
        for back in range((self.last - self.first).days + 1):
            yield self.last - timedelta(days=back)


@dataclass(frozen=True)
class Service:
    """Answers questions; it writes nothing anywhere. Every method raises PipelineError."""

    shared: Context
    answers: Answers = field(default_factory=Answers)
    _newest: dict[str, Publication] = field(default_factory=dict)  #: by network, the last that its warehouse told

    @classmethod
    def of(cls, shared: Context) -> Service:
        """Return a service that waits for no answer for long."""
        return cls(replace(shared, answer_seconds=QUICK_SECONDS))

    def networks(self, named: Sequence[str]) -> tuple[str, ...]:
        """Return the networks that were named, else those configured. Raises NotFoundError."""
        configured = self.shared.settings.networks
        for network in named:
            if network not in configured:
                raise NotFoundError(
                    f"{network!r} is not a configured network {did_you_mean(network, configured)}",
                    hint="INGESTION_NETWORKS of the service names them",
                )
        return tuple(dict.fromkeys(named)) or configured

    def window(self, window_days: int | None) -> int:
        """Return the window that was asked for, else the one that is configured."""
        return window_days or self.shared.settings.window_days

    async def state(self, network: str, window_days: int) -> NetworkState:
        """Return what readers see of a network, at most STATE_SECONDS old."""
        return await self.answers.get(
            ("state", network, window_days),
            lambda: read_state(self.shared, network, window_days),
            network,
            seconds=STATE_SECONDS,
        )

    async def snapshot(self, network: str, day: date, window_days: int) -> SnapshotAnswer:
        """Return what there is to say of a day."""
        state = await self.state(network, window_days)
        return SnapshotAnswer.of(state, state.status(self.shared, day))

    async def snapshots(self, networks: Sequence[str], days: Days, states: Sequence[str]) -> SnapshotsAnswer:
        """Return the days that are in one of these states, in any without some."""
        found = await asyncio.gather(*(self.state(network, days.window_days) for network in networks))
        answers = (
            SnapshotAnswer.of(state, state.status(self.shared, day)) for day in days.newest_first() for state in found
        )
        return SnapshotsAnswer(snapshots=[answer for answer in answers if not states or answer.state in states])

    async def publication(self, publication_id: str) -> PublicationAnswer:
        """Return a publication. Raises NotFoundError when there is none."""
        unavailable: PipelineError | None = None
        for network in self.shared.settings.networks:
            try:
                snapshot = await self._snapshot_of(network, publication_id)
                if snapshot is None:
                    continue
                state = await self.state(network, snapshot.window_days)
            except PipelineError as error:
                unavailable = error
                continue
            past = state.publications.get(snapshot.processing_date, ())
            for publication in past:
                if publication.publication_id == publication_id:
                    return PublicationAnswer.of(network, publication, is_newest=publication is past[-1])
        raise unavailable or NotFoundError(
            f"No network has a publication {publication_id}", hint="/snapshots tells publication_id of each day"
        )

    async def _snapshot_of(self, network: str, publication_id: str) -> Snapshot | None:
        def ask() -> Snapshot | None:
            found = find_publication(self.shared.warehouse(network), publication_id)
            return Snapshot(network, *found) if found else None

        return await self.answers.get(("publication", network, publication_id), ask, network, seconds=STATE_SECONDS)

    async def freshness(self, networks: Sequence[str], max_age: timedelta) -> FreshnessAnswer:
        """Return how old what readers see is. Raises when no warehouse tells."""
        window_days, now = self.shared.settings.window_days, datetime.now(UTC)
        found, errors = [], []
        for network in networks:
            try:
                newest = (await self.state(network, window_days)).newest
                found.append(freshness_of(network, newest, window_days=window_days, max_age=max_age, now=now))
            except PipelineError as error:
                errors.append(error)
                found.append(Freshness(network, "unknown", problem=f"{error} ({error.hint})"))
        if errors and len(errors) == len(found):
            raise errors[0]
        models = [NetworkFreshness.model_validate(each.as_dict()) for each in found]
        return FreshnessAnswer(fresh=all(each.state == "fresh" for each in found), networks=models)

    async def runs(self, networks: Sequence[str], days: Days, limit: int) -> RunsAnswer:
        """Return what runs did about these days, the newest ``limit``, and what is at work now."""

        def ask(network: str) -> list[Attempt]:
            warehouse = self.shared.warehouse(network)
            by_day: dict[date, list[Any]] = {}
            for record in step_records(warehouse, network, days.first, days.last, days.window_days):
                by_day.setdefault(record.snapshot.processing_date, []).append(record)
            return [attempt for records in by_day.values() for attempt in attempts_of(records)]

        keys = [("runs", network, days) for network in networks]
        asked = (
            self.answers.get(key, lambda network=network: ask(network), network, seconds=RUNS_SECONDS)  # type: ignore[misc]
            for key, network in zip(keys, networks, strict=True)
        )
        attempts = [attempt for found in await asyncio.gather(*asked) for attempt in found]
        attempts.sort(key=lambda attempt: attempt.started_at, reverse=True)
        states = await asyncio.gather(*(self.state(network, days.window_days) for network in networks))
        return RunsAnswer(
            running=[WorkAnswer.of(state, work) for state in states for work in state.work.values()],
            runs=[RunAnswer.of(attempt) for attempt in attempts[:limit]],
        )

    async def page(self, networks: Sequence[str], days: int) -> str:
        """Return the report about these networks and the last days."""

        def ask() -> str:
            found = collected(self.shared, days=days, last=yesterday(), networks=networks, next_steps=False)
            return render(found)

        return await self.answers.get(("page", *networks, days), ask, *networks, seconds=RUNS_SECONDS)

    async def samples(self) -> list[Sample]:
        """Return the metrics. Of a warehouse that does not answer the newest day stays what it last was."""
        found: list[Sample] = []
        for network in self.shared.settings.networks:
            is_up = 1
            try:
                state = await self.state(network, self.shared.settings.window_days)
                found.append(Sample("sot_ingest_held_days", state.held_days, network))
                found.append(Sample("sot_ingest_running_snapshots", len(state.work), network))
                found += await self._storage(network)
                if state.newest:
                    self._newest[network] = state.newest
            except PipelineError:
                is_up = 0
            if network in self._newest:
                found += newest_samples(network, self._newest[network])
            found += [Sample("sot_ingest_warehouse_up", is_up, network), build_info(network)]
        return found

    async def _storage(self, network: str) -> list[Sample]:
        def ask() -> list[Sample]:
            warehouse = self.shared.warehouse(network)
            sizes = table_sizes(warehouse)
            found = [Sample("sot_ingest_table_bytes", size.bytes, network, ("table", size.name)) for size in sizes]
            for disk in disks(warehouse):
                label = ("disk", disk.name)
                found.append(Sample("sot_ingest_disk_free_bytes", disk.free_bytes, network, label))
                found.append(Sample("sot_ingest_disk_total_bytes", disk.total_bytes, network, label))
            return found

        return await self.answers.get(("storage", network), ask, network, seconds=STORAGE_SECONDS)
