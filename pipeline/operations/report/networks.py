"""What the report says of one network: is it in trouble, when are its days ready, how much has it stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from statistics import median
from typing import Any

from pipeline.dates import day_end
from pipeline.operations.freshness import USUAL_MAX_AGE
from pipeline.operations.report.days import ReportDay
from pipeline.warehouse.claims import Work
from pipeline.warehouse.publications import Publication
from pipeline.warehouse.storage import TableSize

#: The trend of times compares the median of the newest days with that of the days before them.
NEWEST_DAYS, EARLIER_DAYS, FEWEST_EARLIER = 7, 28, 7


@dataclass(frozen=True)
class Health:
    """How a network is, and how urgent that is: the lower, the more."""

    name: str
    rank: int
    state: str  #: the state of days whose colour and sign it has

    @property
    def is_trouble(self) -> bool:
        """Whether somebody has to look at it."""
        return self.name != "up to date"


@dataclass(frozen=True)
class Timing:
    """When something is usually done, as a time after the day's end."""

    newest: timedelta | None  #: of the newest day
    usual: timedelta  #: the median of the newest days
    trend: timedelta | None  #: how much later that is than the median of the days before, or None with too few of them


@dataclass(frozen=True)
class NetworkReport:
    """A network."""

    network: str
    days: tuple[ReportDay, ...]  #: the oldest first
    newest: Publication | None  #: of the newest day that readers see, also when that is not one of the days
    sizes: tuple[TableSize, ...] = ()
    work: tuple[Work, ...] = ()  #: runs that are at work on it
    behind: tuple[str, ...] = ()  #: what each replica shows that does not show the newest

    def count(self, state: str) -> int:
        """Return how many days are in a state."""
        return sum(day.state.name == state for day in self.days)

    def age(self, now: datetime) -> timedelta | None:
        """Return how long the newest day that readers see has been over."""
        return now - day_end(self.newest.processing_date) if self.newest else None

    def health(self, now: datetime) -> Health:
        """Tell how the network is; the age of its newest day counts as it does for ``check``."""
        age = self.age(now)
        found = (
            (self.count("failed"), Health("failed", 0, "failed")),
            (self.count("held"), Health("held", 1, "held")),
            (age is not None and age > USUAL_MAX_AGE, Health("behind", 2, "missing")),
            (age is None, Health("nothing published", 3, "missing")),
            (self.count("missing"), Health("with gaps", 4, "missing")),
            (self.count("half done"), Health("half done", 5, "half done")),
            (self.behind, Health("replica behind", 6, "missing")),
        )
        return next((health for is_so, health in found if is_so), Health("up to date", 9, "published"))

    @property
    def ready(self) -> Timing | None:
        """When days are first published."""
        return _timing([day.ready for day in self.days])

    @property
    def lag(self) -> Timing | None:
        """When upstream has written its manifest."""
        return _timing([day.lag for day in self.days])

    @property
    def largest_change(self) -> tuple[str, float] | None:
        """The table whose rows changed most to the newest day that is shown from the one before, and how much."""
        newest = next((day for day in reversed(self.days) if day.seen), None)
        return max((newest.changes or {}).items(), key=lambda item: abs(item[1]), default=None) if newest else None

    @property
    def bytes(self) -> int:
        """What the network's tables take up on disk."""
        return sum(size.bytes for size in self.sizes)

    def ranges(self, *states: str) -> list[list[ReportDay]]:
        """Return the days in one of these states as runs of days, the newest first."""
        return [run for run in runs(self.days[::-1]) if run[0].state.name in states]

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """Return it as JSON knows it, without the days."""
        age, ready, lag, newest = self.age(now), self.ready, self.lag, self.newest
        return {
            "network": self.network,
            "health": self.health(now).name,
            "newest_date": newest.processing_date.isoformat() if newest else None,
            "published_at": newest.published_at.isoformat() if newest else None,
            "age_seconds": age.total_seconds() if age is not None else None,
            "ready_seconds": ready.usual.total_seconds() if ready else None,
            "upstream_seconds": lag.usual.total_seconds() if lag else None,
            "bytes": self.bytes,
        }


def runs(days: Sequence[ReportDay]) -> Iterator[list[ReportDay]]:
    """Yield the days that follow one another in the same state."""
    for _, run in groupby(days, key=lambda day: day.state.name):
        yield list(run)


def _timing(times: Sequence[timedelta | None]) -> Timing | None:
    known = [time.total_seconds() for time in times if time is not None]
    if not known:
        return None
    usual, earlier = median(known[-NEWEST_DAYS:]), known[-NEWEST_DAYS - EARLIER_DAYS : -NEWEST_DAYS]
    trend = timedelta(seconds=usual - median(earlier)) if len(earlier) >= FEWEST_EARLIER else None
    return Timing(times[-1], timedelta(seconds=usual), trend)
