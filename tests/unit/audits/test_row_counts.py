"""The packaged audits of row counts over whole histories: absurd days are told, quiet and growing networks never.

Counts come from publications, so that no table is needed: a case of a history is what an audit takes for a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from random import Random

import pytest

from pipeline.audits.catalogue import load_catalogue
from pipeline.audits.runner import DAYS, Candidate, ask_audits
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse
from pipeline.warehouse.nearest import PublishedDay
from tests.support.warehouses import Databases

DAY = date(2025, 8, 10)
AUDITS = ("empty_table", "row_counts")


@pytest.fixture(scope="module")
def warehouse(databases: Databases) -> Warehouse:
    """A database without tables."""
    return databases.new()


def told(
    warehouse: Warehouse, cases: Mapping[str, tuple[int, Sequence[int]]], *, nearest: int = -1
) -> dict[str, list[str]]:
    """Return what is said of a count after other counts, by audit.

    The last of them is ``nearest`` days away: with 0 it is what readers see of the same day.
    """
    step = 1 if nearest > 0 else -1
    days = [
        PublishedDay(
            DAY + timedelta(nearest + step * distance),
            {"raw_features": f"load {distance}"},
            {case: counts[-1 - distance] for case, (_, counts) in cases.items() if distance < len(counts)},
        )
        for distance in range(DAYS)
    ]
    candidate = Candidate(Snapshot("torus", DAY, 195), {}, {case: count for case, (count, _) in cases.items()}, days)
    audits = [each for each in load_catalogue(None, ["torus"]).chosen("torus") if each.name in AUDITS]
    return {result.name: result.messages for result in ask_audits(warehouse, candidate, audits) if result.wrong}


def days_of(*histories: Sequence[int]) -> dict[str, tuple[int, Sequence[int]]]:
    """Return each day of histories, with the counts before it."""
    return {
        f"{number} {index}": (history[index], history[:index])
        for number, history in enumerate(histories)
        for index in range(len(history))
    }


ABSURD = {
    "features": (5, [200] * 7),
    "alerts": (1, [40] * 7),
    "alerts that vary": (1, [40, 31, 45, 38, 52, 36, 41]),
    "on the fourth day": (1, [40, 40, 40]),
    "too many": (150, [40, 31, 45, 38, 52, 36, 41]),
    "from few to many": (18, [3, 5, 2, 4, 1, 2, 3]),
    "for the second time": (5, [200, 200, 200, 5, 200, 200, 200]),
}
BELIEVABLE = {
    "quiet": (1, [4] * 7),
    "quiet, and a little more": (14, [3, 5, 2, 4, 1, 2, 3]),
    "third of the median": (67, [200] * 7),
    "three times the median": (600, [200] * 7),
    "accepted the day before": (4, [200, 200, 200, 200, 200, 200, 5]),
    "right again": (190, [200, 200, 200, 5, 5]),
    "two days before": (1, [200, 200]),
    "half of it every day": (25, [400, 200, 100, 50]),
    "erratic": (3, [90, 2, 40, 7, 120, 1, 30]),
    "none after few": (0, [7, 9, 6, 7, 7]),
    "none again": (0, [20, 20, 20, 0]),
    "none on the third day": (0, [200, 200]),
}
EMPTY = {"clusters": (0, [10] * 7), "few": (0, [8, 12, 6]), "raw_address_labels": (0, [1, 1, 1])}


def test_an_absurd_count_is_told(warehouse: Warehouse) -> None:
    """With what was expected, and from which days that is known."""
    found = told(warehouse, ABSURD)
    assert sorted(message.partition(" has ")[0] for message in found.pop("row_counts")) == sorted(ABSURD)
    assert found == {}
    assert told(warehouse, {"raw_features": ABSURD["features"]})["row_counts"] == [
        "raw_features has a row count of 5, expected 67 to 600: 200 is the median of the published days "
        "(days: 7, 2025-08-03 to 2025-08-09)"
    ]


def test_an_empty_table_is_told_when_it_usually_is_not(warehouse: Warehouse) -> None:
    """By one audit, and not by that of the counts as well."""
    found = told(warehouse, EMPTY)
    assert sorted(message.partition(" has ")[0] for message in found.pop("empty_table")) == sorted(EMPTY)
    assert found == {}
    assert told(warehouse, {"raw_clusters": EMPTY["clusters"]})["empty_table"] == [
        "raw_clusters has no rows, expected some: 10 is the median of the published days (days: 7)"
    ]


def test_a_day_that_is_published_again_is_compared_with_what_readers_see_of_it(warehouse: Warehouse) -> None:
    """Also where it is the only day, which may be mended, but not fall; nor is what was published wrongly a rule."""
    fallen = {"fallen": (1, [40]), "on the second day": (5, [200, 200])}
    found = told(warehouse, {**fallen, "emptied": (0, [10])}, nearest=0)
    assert sorted(message.partition(" has ")[0] for message in found.pop("row_counts")) == sorted(fallen)
    assert [message.partition(" has ")[0] for message in found.pop("empty_table")] == ["emptied"]
    assert found == {}
    believable = {
        "mended": (200, [5]),
        "mended on the second day": (200, [200, 5]),
        "mended later": (200, [190, 210, 200, 180, 205, 200, 5]),
        "mended from too many": (200, [200, 200, 200, 900]),
        "the same again": (5, [200, 200, 200, 5]),
        "a bit less": (150, [200]),
        "quiet": (0, [7]),
    }
    assert told(warehouse, believable, nearest=0) == {}


def test_believable_counts_pass(warehouse: Warehouse) -> None:
    """Just inside the bounds, and each reason for which there is no rule."""
    assert told(warehouse, BELIEVABLE) == {}


def test_a_quiet_network_passes_on_each_of_its_days(warehouse: Warehouse) -> None:
    """From the first on, whatever follows upon what."""
    assert told(warehouse, days_of([3, 5, 0, 4, 1, 2], [2, 1, 4, 0, 5, 3], [0, 0, 1, 0, 6, 0, 2, 0, 0, 3])) == {}


def growing(first: int, days: int) -> list[int]:
    """Return counts that grow by a third a week."""
    return [round(first * (4 / 3) ** (day / 7)) for day in range(days)]


def test_a_growing_network_passes(warehouse: Warehouse) -> None:
    """On each day for two months, in a backfill that goes back day by day, and over gaps in either direction."""
    grown = growing(300, 60)
    shrunk = grown[::-1]
    assert told(warehouse, days_of(grown[:30], shrunk[:30])) == {}
    assert told(warehouse, days_of(grown[30:], shrunk[30:]), nearest=1) == {}
    for days in (7, 30, 45):
        over_gap = {
            f"{index}": (history[index + days], history[: index + 1]) for index in range(14) for history in (grown,)
        }
        assert told(warehouse, over_gap, nearest=-days) == {}
        backwards = {f"{index}": (shrunk[index + days], shrunk[: index + 1]) for index in range(14)}
        assert told(warehouse, backwards, nearest=days) == {}
    assert "row_counts" in told(warehouse, {"absurd": (1, [40] * 7)}, nearest=-30)


def poisson(random: Random, mean: float) -> int:
    """Return how many events there are in a time in which ``mean`` are expected."""
    count, waited = 0, random.expovariate(1)
    while waited < mean:
        count, waited = count + 1, waited + random.expovariate(1)
    return count


@pytest.mark.parametrize("mean", [0.5, 2, 5, 12, 40, 120])
def test_no_false_alarm_in_thousands_of_random_days(warehouse: Warehouse, mean: float) -> None:
    """Counts that are independent of each other, and counts over a window that moves on day by day."""
    random = Random(int(mean * 10))  # noqa: S311  # the same histories each time
    independent = [poisson(random, mean) for _ in range(300)]
    a_day = [poisson(random, mean / 30) * random.choice((0, 1, 2)) for _ in range(330)]
    windows = [sum(a_day[start : start + 30]) for start in range(300)]
    assert any(before != after for before, after in pairwise(windows))
    assert told(warehouse, days_of(independent, windows)) == {}
