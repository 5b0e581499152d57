"""What the report says of one network's day: its state, when it was ready, and how its rows compare with others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from pipeline.dates import day_end, parse_instant
from pipeline.operations.status import Status
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES
from pipeline.warehouse.publications import Publication
from pipeline.warehouse.step_log import StepRecord

#: A drop is unusual below this part of the median of so many published days before; with fewer there is no usual.
DROP_BELOW, DAYS_BEFORE, FEWEST_BEFORE = 0.5, 7, 3

#: A day that is first published later than this after its end was ingested afterwards: it tells nothing of the nights.
NIGHTLY = timedelta(days=2)


#: What becomes of steps that somebody has to look at.
TROUBLES = frozenset({"failed", "held"})


@dataclass(frozen=True)
class DayState:
    """What can be said of a day, and its sign: colour is never the only one."""

    name: str
    sign: str
    meaning: str

    @property
    def css(self) -> str:
        """The class of its elements on the page."""
        return self.name.replace(" ", "-")


#: The most urgent first.
STATES = {
    state.name: state
    for state in (
        DayState("failed", "!", "the newest attempt failed; readers see what they saw before"),
        DayState("held", "‖", "loaded, and an audit holds it; readers see what they saw before: sot-ingest accept"),
        DayState("missing", "–", "nothing was published, and nothing was begun"),
        DayState("half done", "½", "begun and not published; a run goes on from there"),
        DayState("running", "▸", "a run is at work on it"),
        DayState("expected", "…", "over for less than two hours; upstream may be at work on it"),
        DayState("rolled back", "↩", "an operator took readers back to an older publication"),
        DayState("published", "✓", "readers see it"),
        DayState("retired", "×", "an operator took it away from readers"),
        DayState("before the first", "·", "earlier than the first day that was ever published"),
    )
}


@dataclass(frozen=True)
class Drop:
    """A table that has far fewer rows than on the days before."""

    snapshot: Snapshot
    table: str
    rows: int
    usual: float  #: the median of the published days before


@dataclass(frozen=True)
class ReportDay:
    """A network's day."""

    snapshot: Snapshot
    state: DayState
    status: Status
    publications: tuple[Publication, ...]  #: the oldest first
    failure: StepRecord | None  #: the newest, or what an audit holds, unless something was published since
    seconds: float | None  #: of the steps of the run that published last
    generated_at: datetime | None  #: UTC, when upstream wrote the first manifest that was seen
    drops: tuple[Drop, ...] = ()
    changes: Mapping[str, float] | None = None  #: rows against the published day before, by table; 0.1 is 10 % more

    @property
    def anchor(self) -> str:
        """The fragment of its entry on the page; luigi's page links to it."""
        return f"{self.snapshot.network}-{self.snapshot.processing_date.isoformat()}"

    @property
    def seen(self) -> Publication | None:
        """What readers see."""
        newest = self.publications[-1] if self.publications else None
        return None if newest and newest.action == "retire" else newest

    @property
    def rows(self) -> Mapping[str, int]:
        """How many rows readers see, by table."""
        return self.seen.row_counts if self.seen else {}

    @property
    def ready(self) -> timedelta | None:
        """How long after its end the day was first published, if that was in the nights after it."""
        return _nightly(self.snapshot, self.publications[0].published_at if self.publications else None)

    @property
    def lag(self) -> timedelta | None:
        """How long after the day's end upstream wrote its manifest, if that was in the nights after it."""
        return _nightly(self.snapshot, self.generated_at)

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to say of it that its state and rows do not say."""
        return not (self.drops or self.failure or self.status.step)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            **self.status.as_dict(),
            "state": self.state.name,
            "publications": len(self.publications),
            "seconds": self.seconds,
            "ready_seconds": self.ready.total_seconds() if self.ready is not None else None,
            "upstream_seconds": self.lag.total_seconds() if self.lag is not None else None,
            "changes": {table: round(change, 4) for table, change in (self.changes or {}).items()},
            "error": self.failure.error if self.failure else None,
            "hint": self.failure.hint if self.failure else None,
            "drops": [drop.table for drop in self.drops],
        }


def _nightly(snapshot: Snapshot, at: datetime | None) -> timedelta | None:
    if at is None:
        return None
    after = at - day_end(snapshot.processing_date)
    return after if timedelta() <= after <= NIGHTLY else None


def entry_of(
    status: Status,
    publications: Sequence[Publication],
    records: Sequence[StepRecord],
    *,
    running: bool = False,
    missing: str = "missing",
) -> ReportDay:
    """Return the entry of a day; ``records`` are those of its steps, the oldest first.

    ``running``: a run has it claimed. ``missing`` names the state of a day on which nothing was done.
    """
    seen = publications[-1] if publications else None
    failure = next((record for record in reversed(records) if record.state in TROUBLES), None)
    if failure and (_is_older(failure, seen) or _was_done_since(failure, records)):
        failure = None
    name = _state(status, failure, running=running, missing=missing)
    generated_at = next(filter(None, map(_generated_at, records)), None)
    return ReportDay(
        status.snapshot, STATES[name], status, tuple(publications), failure, _seconds(records), generated_at
    )


def _is_older(failure: StepRecord, seen: Publication | None) -> bool:
    return seen is not None and failure.started_at < seen.published_at


def _was_done_since(failure: StepRecord, records: Iterable[StepRecord]) -> bool:
    return any(
        record.state == "done" and record.title == failure.title and record.started_at > failure.started_at
        for record in records
    )


def _state(status: Status, failure: StepRecord | None, *, running: bool, missing: str) -> str:
    if running and status.state in {"half done", "missing", "held"}:
        return "running"
    if failure and failure.state == "failed":
        return "failed"
    return missing if status.state == "missing" else status.state


def _seconds(records: Sequence[StepRecord]) -> float | None:
    """Return how long the steps took of the run that published last, or None when no record tells."""
    run = next((record.run_id for record in reversed(records) if record.step == "PublishSnapshot"), None)
    return sum(record.seconds for record in records if record.run_id == run) if run else None


def _generated_at(record: StepRecord) -> datetime | None:
    """Return when upstream wrote the manifest that a step validated."""
    if record.step != "ValidateManifest" or record.state != "done":
        return None
    try:
        return parse_instant(str(record.facts.get("generated_at")))
    except ValueError:
        return None


def compared(entries: Sequence[ReportDay]) -> list[ReportDay]:
    """Return a network's entries, the oldest first, each compared with the published days before it."""
    found = []
    before: dict[str, list[int]] = {table.name: [] for table in TABLES}
    for entry in entries:
        drops, changes = [], {}
        for name, rows in entry.rows.items():
            past = before[name][-DAYS_BEFORE:]
            if len(past) >= FEWEST_BEFORE and rows < DROP_BELOW * median(past):
                drops.append(Drop(entry.snapshot, name, rows, median(past)))
            if past and past[-1]:
                changes[name] = rows / past[-1] - 1
            before[name].append(rows)
        found.append(replace(entry, drops=tuple(drops), changes=changes))
    return found
