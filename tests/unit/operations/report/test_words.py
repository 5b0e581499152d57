"""Numbers are spelled for people."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipeline.operations.report import words


@pytest.mark.parametrize(
    ("count", "text"),
    [(0.001, "under 0.01 s"), (0.456, "0.46 s"), (12.3, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(count: float, text: str) -> None:
    """In the unit that suits them."""
    assert words.seconds(count) == text


@pytest.mark.parametrize(("minutes", "text"), [(5, "5 min"), (450, "7 h 30 min"), (3_120, "2 days 4 h")])
def test_ages(minutes: int, text: str) -> None:
    """Minutes, hours, then days."""
    assert words.age(timedelta(minutes=minutes)) == text


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "00:00"), (83, "01:23"), (1_439.6, "00:00 (+1)"), (1_500, "01:00 (+1)")]
)
def test_times_of_day(minutes: float, text: str) -> None:
    """Of the day after the processing date, or of how many days later."""
    assert words.clock(timedelta(minutes=minutes)) == text


@pytest.mark.parametrize(
    ("part", "text"), [(0.0, "±0 %"), (0.0001, "±0 %"), (0.024, "+2.4 %"), (-0.6, "−60 %"), (18.5, "+1850 %")]
)
def test_changes(part: float, text: str) -> None:
    """With their sign."""
    assert words.change(part) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(("minutes", "text"), [(0.4, "±0 min"), (12, "+12 min"), (-3, "−3 min")])
def test_shifts(minutes: float, text: str) -> None:
    """With their sign."""
    assert words.shift(timedelta(minutes=minutes)) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 kB"),
        (1_234_567, "1.2 MB"),
        (99_400_000, "99 MB"),
        (999_600_000, "1 GB"),
        (4e16, "40 PB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    """In the unit that suits them, two digits."""
    assert words.size(int(count)) == text


def test_ranges_of_days() -> None:
    """A single day is one date."""
    assert words.days(date(2025, 8, 1), date(2025, 8, 1)) == "2025-08-01"
    assert words.days(date(2025, 8, 1), date(2025, 8, 3)) == "2025-08-01 to 2025-08-03"
