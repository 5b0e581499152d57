"""When a day on which nothing was done is missing."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from pipeline.operations.report.data import state_when_missing

NOW = datetime(2025, 8, 11, 7, tzinfo=UTC)
FIRST = date(2025, 8, 1)


@pytest.mark.parametrize(
    ("day", "first", "now", "state"),
    [
        (date(2025, 8, 2), FIRST, NOW, "missing"),
        (date(2025, 7, 31), FIRST, NOW, "before the first"),
        (date(2025, 8, 2), None, NOW, "before the first"),
        (date(2025, 8, 10), FIRST, NOW.replace(hour=2), "expected"),
        (date(2025, 8, 10), FIRST, NOW.replace(hour=2, second=1), "missing"),
        (date(2025, 8, 11), FIRST, NOW, "expected"),
    ],
)
def test_a_day_is_missing_when_it_is_due(day: date, first: date | None, now: datetime, state: str) -> None:
    """Not before a network's first publication, nor before ``check`` finds the day before too old."""
    assert state_when_missing(day, first, now) == state
