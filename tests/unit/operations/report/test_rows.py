"""The list of days has a row for each newest day, and few rows for many."""

from __future__ import annotations

from datetime import timedelta

from pipeline.operations.report.rows import FEWEST_DAYS, MOST_DAYS, rows_of
from tests.support.reports import LAST, entry, network, sample


def test_every_day_is_in_one_row() -> None:
    """In order, the newest first, however they are folded."""
    for each in sample(40, 195).networks:
        rows = rows_of(each, 40)
        assert [day for row in rows for day in row.days] == list(reversed(each.days))
        assert len(rows) <= 2 * MOST_DAYS // 40 + 1


def test_days_without_anything_share_a_row() -> None:
    """Wherever they are; days of which there is something to say have a row of their own."""
    rows = [[1], [], [], [], [2], [3]]
    found = rows_of(network([entry(LAST - timedelta(days=5 - at), each) for at, each in enumerate(rows)]), 1)
    assert [len(row.days) for row in found] == [1, 1, 3, 1]
    assert [bool(row.only) for row in found] == [True, True, False, True]


def test_older_days_of_many_networks_share_rows() -> None:
    """With the fewest and the most rows that readers see on them."""
    days = [entry(LAST - timedelta(days=back), [back]) for back in reversed(range(30))]
    found = rows_of(network(days), 1_000)
    assert [len(row.days) for row in found] == [*[1] * FEWEST_DAYS, 30 - FEWEST_DAYS]
    assert found[-1].rows("raw_alerts") == (FEWEST_DAYS, 29)
    assert found[-1].rows("raw_other") is None


def test_days_in_turn_end_in_one_row() -> None:
    """So that no network has a row for each day of a year, whatever happened."""
    days = [entry(LAST - timedelta(days=back), [1] * (back % 2)) for back in reversed(range(60))]
    found = rows_of(network(days), 1_000)
    assert len(found) == 2 * FEWEST_DAYS + 1
    assert set(found[-1].states) == {"published", "missing"}
