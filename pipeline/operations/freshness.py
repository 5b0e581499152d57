"""How old is what readers see? The answer for monitoring.

The age of a network is counted from the end of its newest published processing date, and not from the moment of a
publication: a pipeline that is stuck and publishes old days again does not look fresh. A daily snapshot that is
published an hour after its day's end is one hour old then, and 25 hours just before the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pipeline.dates import day_end
from pipeline.errors import PipelineError
from pipeline.graph.context import QUICK_SECONDS, get_context
from pipeline.operations.replicas import hosts_behind
from pipeline.warehouse.publications import Publication, newest_date_publication

#: How old the newest published day of a network that is in order gets.
USUAL_MAX_AGE = timedelta(hours=26)

FreshnessState = Literal["fresh", "behind", "too old", "nothing", "unknown"]


@dataclass(frozen=True)
class Freshness:
    """How old the newest that readers see of a network is."""

    network: str
    state: FreshnessState  #: nothing: nothing is published; unknown: the warehouse did not tell; behind: a replica is
    age: timedelta | None = None  #: since the end of the newest date
    publication: Publication | None = None  #: the newest of the newest date
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        seen = self.publication
        return {
            "network": self.network,
            "state": self.state,
            "age_seconds": self.age.total_seconds() if self.age is not None else None,
            "processing_date": seen.processing_date.isoformat() if seen else None,
            "published_at": seen.published_at.isoformat() if seen else None,
            "problem": self.problem,
        }


def check_freshness(networks: Sequence[str], *, window_days: int, max_age: timedelta, now: datetime) -> list[Freshness]:
    """Return how fresh each network is; one query a network."""
    return [_check(network, window_days, max_age, now) for network in networks]


def _check(network: str, window_days: int, max_age: timedelta, now: datetime) -> Freshness:
    try:
        warehouse = get_context().warehouse(network, timeout=QUICK_SECONDS)
        newest = newest_date_publication(warehouse, window_days)
        day = newest.processing_date if newest else now.date()
        lacking = hosts_behind(warehouse, network, day, day, window_days)
    except PipelineError as error:
        return Freshness(network, "unknown", problem=f"{error} ({error.hint})")
    found = freshness_of(network, newest, window_days=window_days, max_age=max_age, now=now)
    if found.state == "fresh" and (behind := lacking.get(day)):
        return replace(found, state="behind", problem="; ".join(map(str, behind)))
    return found


def freshness_of(
    network: str, newest: Publication | None, *, window_days: int, max_age: timedelta, now: datetime
) -> Freshness:
    """Tell how fresh a network is of which readers see ``newest`` as the newest day."""
    if newest is None:
        return Freshness(network, "nothing", problem=f"nothing with a window of {window_days} days is published")
    age = now - day_end(newest.processing_date)
    if age <= max_age:
        return Freshness(network, "fresh", age, newest)
    late = f"newest date is {hours(age)} old, {hours(max_age)} allowed: sot-ingest history says what runs did"
    return Freshness(network, "too old", age, newest, late)


def hours(time: timedelta) -> str:
    """Return a time in hours, or in days where there are many, for people."""
    return f"{time / timedelta(hours=1):,.1f} h" if time < timedelta(days=5) else f"{time.days:,} days"
