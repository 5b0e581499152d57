"""What runs did about each snapshot: attempts, how long they took, and why they failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.dates import last_days
from pipeline.graph.context import get_context
from pipeline.snapshot import Snapshot
from pipeline.warehouse.load_log import LoadAttempt, load_attempts
from pipeline.warehouse.step_log import StepRecord, step_records


@dataclass(frozen=True)
class Attempt:
    """What one run did about one snapshot."""

    steps: tuple[StepRecord, ...]  #: at least one; in the order in which they started

    @property
    def run_id(self) -> str:
        """The run, the same for all its snapshots."""
        return self.steps[0].run_id

    @property
    def host(self) -> str:
        """Where it ran."""
        return self.steps[0].host

    @property
    def started_at(self) -> datetime:
        """When its first step started, UTC."""
        return self.steps[0].started_at

    @property
    def seconds(self) -> float:
        """From the start of its first step to the end of its last."""
        end = max(step.started_at + timedelta(seconds=step.seconds) for step in self.steps)
        return round((end - self.started_at).total_seconds(), 3)

    @property
    def troubles(self) -> tuple[StepRecord, ...]:
        """The steps that were not done."""
        return tuple(step for step in self.steps if step.state != "done")

    @property
    def outcome(self) -> str:
        """Return failed, missing, published, in order (nothing to publish was left), or half done.

        Half done without a failure is a run that is at work, or was killed.
        """
        if self.troubles:
            return self.troubles[-1].state
        done = {step.step for step in self.steps}
        if "PublishSnapshot" in done:
            return "published"
        return "in order" if done & {"CleanUp", "IngestSnapshot"} else "half done"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            "run_id": self.run_id,
            "host": self.host,
            "outcome": self.outcome,
            "started_at": self.started_at.isoformat(),
            "seconds": self.seconds,
            "steps": [_without_snapshot(step.as_dict()) for step in self.steps],
        }


@dataclass(frozen=True)
class History:
    """What runs did about one snapshot."""

    snapshot: Snapshot
    attempts: tuple[Attempt, ...]  #: the newest first
    loads: tuple[LoadAttempt, ...]  #: the newest first

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            **self.snapshot.as_dict(),
            "attempts": [attempt.as_dict() for attempt in self.attempts],
            "loads": [load.as_dict() for load in self.loads],
        }


def _without_snapshot(step: dict[str, Any]) -> dict[str, Any]:
    shared = ("network", "processing_date", "window_days", "run_id", "host")
    return {name: value for name, value in step.items() if name not in shared}


def collect(networks: Sequence[str], *, days: int, last: date, window_days: int) -> list[History]:
    """Return the history of each network and of ``days`` days up to ``last``, the newest day first.

    Snapshots that no run did anything about are left out. Two queries a network. Raises WarehouseError.
    """
    first = last_days(days, last)[0]
    found = []
    for network in networks:
        warehouse = get_context().warehouse(network)
        steps = step_records(warehouse, network, first, last, window_days)
        loads = load_attempts(warehouse, network, first, last, window_days)
        for snapshot in {step.snapshot for step in steps} | {load.snapshot for load in loads}:
            own = tuple(load for load in loads if load.snapshot == snapshot)
            found.append(History(snapshot, attempts_of([each for each in steps if each.snapshot == snapshot]), own))
    order = {network: number for number, network in enumerate(networks)}
    return sorted(found, key=lambda each: (-each.snapshot.processing_date.toordinal(), order[each.snapshot.network]))


def attempts_of(steps: Sequence[StepRecord]) -> tuple[Attempt, ...]:
    """Return the attempts that one snapshot's steps belong to, the newest first."""
    runs: dict[str, list[StepRecord]] = {}
    for step in sorted(steps, key=lambda each: each.started_at):
        runs.setdefault(step.run_id, []).append(step)
    attempts = [Attempt(tuple(own)) for own in runs.values()]
    return tuple(sorted(attempts, key=lambda attempt: attempt.started_at, reverse=True))
