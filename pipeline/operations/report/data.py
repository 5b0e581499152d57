"""What the report is about: each network and day with its publications, its rows, its failures and its drops.

Five queries a network, however many days there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from statistics import median
from typing import Any

from pipeline.dates import last_days
from pipeline.graph.context import Context
from pipeline.operations.status import Status, status_of
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import newest_verdicts
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION
from pipeline.warehouse.publish import Publication, publications_by_date
from pipeline.warehouse.step_log import StepRecord, step_records

#: A drop is unusual below this part of the median of so many published days before; with fewer there is no usual.
DROP_BELOW, DAYS_BEFORE, FEWEST_BEFORE = 0.5, 7, 3

TROUBLES = frozenset({"failed", "held"})  #: what becomes of steps that a person has to look at
FAILURES = 8  #: the newest, shown with their hints


@dataclass(frozen=True)
class DayState:
    """What can be said of a day, and its sign: colour is never the only one."""

    name: str
    sign: str
    meaning: str


STATES = {
    state.name: state
    for state in (
        DayState("published", "✓", "published once; readers see it"),
        DayState("superseded", "2", "published as often as the number says; readers see the newest"),
        DayState("rolled back", "↩", "an operator took readers back to an older publication"),
        DayState("failed", "!", "the newest attempt failed; readers see what they saw before"),
        DayState("held", "‖", "loaded, and an audit holds it; readers see what they saw before; see sot-ingest accept"),
        DayState("half done", "½", "begun and not published; a run goes on from there"),
        DayState("missing", "–", "nothing was published, and nothing was begun"),
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
    drops: tuple[Drop, ...] = ()

    @property
    def anchor(self) -> str:
        """The fragment of its entry on the page; luigi's page links to it."""
        return f"{self.snapshot.network}-{self.snapshot.processing_date.isoformat()}"

    @property
    def sign(self) -> str:
        """The state's sign, with the number of publications where that is one."""
        return str(len(self.publications)) if self.state.name == "superseded" else self.state.sign

    @property
    def seen(self) -> Publication | None:
        """What readers see."""
        return self.publications[-1] if self.publications else None

    @property
    def rows(self) -> Mapping[str, int]:
        """How many rows readers see, by table."""
        return self.seen.row_counts if self.seen else {}

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            **self.status.as_dict(),
            "state": self.state.name,
            "publications": len(self.publications),
            "seconds": self.seconds,
            "error": self.failure.error if self.failure else None,
            "hint": self.failure.hint if self.failure else None,
            "drops": [drop.table for drop in self.drops],
        }


@dataclass(frozen=True)
class Report:
    """Everything on the page."""

    now: datetime  #: UTC
    first: date
    last: date
    window_days: int
    by_network: dict[str, list[ReportDay]]  #: the oldest day first
    records: tuple[StepRecord, ...]  #: of all steps, the oldest first
    host: str = HOST
    version: str = PIPELINE_VERSION

    @property
    def newest_first(self) -> list[ReportDay]:
        """All entries, by day and then by network."""
        columns = [entries[::-1] for entries in self.by_network.values()]
        return [entry for day in zip(*columns, strict=True) for entry in day]

    def count(self, state: str) -> int:
        """Return how many days are in a state."""
        return sum(entry.state.name == state for entry in self.newest_first)

    @property
    def failures(self) -> list[StepRecord]:
        """The newest failures."""
        return [record for record in reversed(self.records) if record.state in TROUBLES][:FAILURES]

    @property
    def newest(self) -> dict[str, ReportDay | None]:
        """The newest published day of each network."""
        return {
            network: next((entry for entry in reversed(entries) if entry.seen), None)
            for network, entries in self.by_network.items()
        }


def collect(
    shared: Context, *, days: int, last: date, now: datetime, networks: Sequence[str] = (), window_days: int = 0
) -> Report:
    """Read what the warehouse knows of networks, by default those configured, and of ``days`` days up to ``last``.

    Raises WarehouseError.
    """
    wanted, window_days = last_days(days, last), window_days or shared.settings.window_days
    first = wanted[0]
    by_network: dict[str, list[ReportDay]] = {}
    all_records: list[StepRecord] = []
    for network in networks or shared.settings.networks:
        warehouse = shared.warehouse(network)
        past = publications_by_date(warehouse, first, last, window_days)
        begun = ledger.attempted_dates(warehouse, first, last, window_days)
        verdicts = newest_verdicts(warehouse, network, first, last)
        records = step_records(warehouse, network, first, last, window_days)
        by_day: dict[date, list[StepRecord]] = defaultdict(list)
        for record in records:
            by_day[record.snapshot.processing_date].append(record)
        entries = []
        for day in wanted:
            publications = past.get(day, [])
            seen = publications[-1] if publications else None
            snapshot = Snapshot(network, day, window_days)
            status = status_of(shared, snapshot, seen, verdicts.get(snapshot), begun=day in begun)
            entries.append(entry_of(status, publications, by_day[day]))
        by_network[network] = with_drops(entries)
        all_records += records
    all_records.sort(key=lambda record: record.started_at)
    return Report(now, first, last, window_days, by_network, tuple(all_records))


def entry_of(status: Status, publications: Sequence[Publication], records: Sequence[StepRecord]) -> ReportDay:
    """Return the entry of a day; ``records`` are those of its steps, the oldest first."""
    seen = publications[-1] if publications else None
    failure = next((record for record in reversed(records) if record.state in TROUBLES), None)
    if failure and (_is_older(failure, seen) or _was_done_since(failure, records)):
        failure = None
    name = _state(status, publications, failure)
    return ReportDay(status.snapshot, STATES[name], status, tuple(publications), failure, _seconds(records))


def _is_older(failure: StepRecord, seen: Publication | None) -> bool:
    return seen is not None and failure.started_at < seen.published_at


def _was_done_since(failure: StepRecord, records: Iterable[StepRecord]) -> bool:
    return any(
        record.state == "done" and record.title == failure.title and record.started_at > failure.started_at
        for record in records
    )


def _state(status: Status, publications: Sequence[Publication], failure: StepRecord | None) -> str:
    if failure and failure.state == "failed":
        return "failed"
    if status.state in {"half done", "held"} or not publications:
        return status.state
    if publications[-1].action == "rollback":
        return "rolled back"
    return "superseded" if len(publications) > 1 else "published"


def _seconds(records: Sequence[StepRecord]) -> float | None:
    """Return how long the steps took of the run that published last, or None when no record tells."""
    run = next((record.run_id for record in reversed(records) if record.step == "PublishSnapshot"), None)
    return sum(record.seconds for record in records if record.run_id == run) if run else None


def with_drops(entries: Sequence[ReportDay]) -> list[ReportDay]:
    """Return a network's entries, the oldest first, with the tables marked that have unusually few rows."""
    found = []
    before: dict[str, list[int]] = {table.name: [] for table in TABLES}
    for entry in entries:
        drops = []
        for name, rows in entry.rows.items():
            past = before[name][-DAYS_BEFORE:]
            if len(past) >= FEWEST_BEFORE and rows < DROP_BELOW * median(past):
                drops.append(Drop(entry.snapshot, name, rows, median(past)))
            before[name].append(rows)
        found.append(replace(entry, drops=tuple(drops)))
    return found
