"""Which network somebody has to look at, and when its days are ready."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.operations.report.days import ReportDay
from pipeline.operations.report.networks import NetworkReport
from tests.support.reports import LAST, NOW, entry, network, report, sample

BEFORE = LAST - timedelta(days=1)
PUBLISHED = entry(LAST, [100])


def minutes(time: timedelta) -> float:
    """Return a time in minutes."""
    return time / timedelta(minutes=1)


@pytest.mark.parametrize(
    ("days", "health"),
    [
        ([entry(BEFORE, [100]), PUBLISHED], "up to date"),
        ([entry(BEFORE, [100, 101]), PUBLISHED], "up to date"),
        ([entry(BEFORE, [], missing="before the first"), PUBLISHED], "up to date"),
        ([entry(BEFORE, [100]), entry(LAST, [], missing="expected")], "behind"),
        ([entry(BEFORE, []), PUBLISHED], "with gaps"),
        ([entry(BEFORE, [], failed="bad file"), PUBLISHED], "failed"),
        ([entry(BEFORE, []), entry(LAST, [1], held="few rows")], "held"),
        ([entry(BEFORE, []), entry(LAST, [], missing="before the first")], "nothing published"),
    ],
)
def test_a_network_is_as_its_worst_days(days: list[ReportDay], health: str) -> None:
    """Neither a day that was published twice nor those before the first are an alarm."""
    assert network(days).health(NOW).name == health


def test_a_network_is_behind_as_soon_as_check_says_so() -> None:
    """The newest day may be over for 26 hours."""
    days = network([entry(BEFORE, [100]), entry(LAST, [], missing="expected")])
    end = NOW.replace(hour=0)  # of the last day, and 24 hours after the end of the day before
    assert days.health(end + timedelta(hours=2)).name == "up to date"
    assert days.health(end + timedelta(hours=2, seconds=1)).name == "behind"


def test_networks_in_trouble_come_first() -> None:
    """With a sum above them."""
    found = sample(40, 195)
    ranks = [health.rank for health in found.healths]
    assert ranks == sorted(ranks)
    troubled = sum(health.is_trouble for health in found.healths)
    assert 0 < troubled < 40
    assert found.headline == f"{troubled} of 40 networks need a look"


def test_the_headline_counts() -> None:
    """In plain words, whatever the number."""
    good = [network([entry(LAST, [100], network=name)]) for name in ("bitcoin", "torus")]
    bad = network([entry(LAST, [], network="ethereum", failed="bad file")])
    assert report(*good).headline == "All 2 networks are up to date"
    assert report(*good, bad).headline == "1 of 3 networks needs a look"
    assert report(good[0]).headline == "bitcoin is up to date"
    assert report(bad).headline == "ethereum needs a look"


def test_missing_days_are_folded_into_ranges() -> None:
    """The newest first, and no range goes over a day in another state."""
    days = [entry(LAST - timedelta(days=back), rows) for back, rows in ((4, []), (3, []), (2, [1]), (1, []), (0, [1]))]
    ranges = network(days).ranges("missing")
    assert [[(LAST - day.snapshot.processing_date).days for day in each] for each in ranges] == [[1], [3, 4]]


def ready_at(times: list[int | None]) -> NetworkReport:
    """Return a network whose days were ready so many minutes after their ends, the oldest first."""
    days = [LAST - timedelta(days=back) for back in reversed(range(len(times)))]
    return network(
        [
            entry(day, [] if time is None else [1], ready=timedelta(minutes=time or 0))
            for day, time in zip(days, times, strict=True)
        ]
    )


def test_the_trend_compares_the_newest_days_with_those_before() -> None:
    """Medians, so that one late night is none; days without a publication tell nothing."""
    found = ready_at([*[60] * 14, None, *[75] * 6, 600]).ready
    assert found is not None
    assert found.trend is not None
    assert (minutes(found.usual), minutes(found.trend)) == (75, 15)
    assert ready_at([None, None]).ready is None
    few = ready_at([60] * 8).ready
    assert few is not None
    assert few.trend is None


def test_the_largest_change_is_that_of_the_newest_day_that_readers_see() -> None:
    """Up or down."""
    days = [entry(LAST - timedelta(days=back), rows) for back, rows in ((2, [100]), (1, [40]), (0, []))]
    assert network(days).largest_change == ("raw_alerts", -0.6)
    assert network(days[:1]).largest_change is None
