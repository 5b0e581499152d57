"""What is drawn is what there is."""

from __future__ import annotations

from datetime import date, timedelta

from pipeline.dates import days_between
from pipeline.operations.report.charts import charts_of, months
from pipeline.tables import BY_NAME
from tests.support.reports import LAST, entry, network


def test_rows_are_a_stair_with_gaps() -> None:
    """A step a day, the highest as high as the chart; days without a publication are gaps; the drop is marked."""
    rows = [[100], [100], [], [50], [50], [50], [10]]
    days = network([entry(LAST - timedelta(days=6 - at), each) for at, each in enumerate(rows)])
    *tables, ready = charts_of(days)
    assert [chart.title for chart in tables] == ["alerts", "features", "clusters", "address labels"]
    assert {chart.path for chart in tables} == {"M0 60v-60h2V60zM3 60v-30h3v24h1V60z"}
    assert tables[0].marks == (6,)
    assert tables[0].description == (
        "alerts of torus on 6 published days: 10 rows at least, 10 newest, 100 at most. "
        f"Unusual drops: {LAST.isoformat()}."
    )
    assert ready.path.count("M") == 6


def test_a_network_without_rows_has_no_charts() -> None:
    """And one whose tables have no rows has flat ones."""
    assert charts_of(network([entry(LAST, [])])) == []
    assert [chart.path for chart in charts_of(network([entry(LAST, [0])]))][:-1] == ["M0 60v-1h1V60z"] * len(BY_NAME)


def test_days_are_grouped_by_month() -> None:
    """Over the turn of a year."""
    assert months(days_between(date(2025, 12, 30), date(2026, 1, 3))) == [("Dec 2025", 2), ("Jan 2026", 3)]
