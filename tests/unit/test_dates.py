"""Days as operators name them, ranges of days, and upstream's times."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
import time_machine

from pipeline import dates

NOW = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2025-08-01", date(2025, 8, 1)),
        ("today", date(2026, 3, 31)),
        ("yesterday", date(2026, 3, 30)),
        ("-1d", date(2026, 3, 30)),
        ("-3d", date(2026, 3, 28)),
        ("-2weeks", date(2026, 3, 17)),
        ("-1month", date(2026, 2, 28)),
        ("-13months", date(2025, 2, 28)),
        ("-1y", date(2025, 3, 31)),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_a_day_is_iso_or_counted_back_from_today_in_utc(text: str, day: date) -> None:
    """A month that is shorter ends with its last day."""
    assert dates.parse_day(text) == day


@pytest.mark.parametrize(
    "text",
    [
        *("", "tomorrow", "last friday", "1 August 2025", "01/08/2025", "2025-13-01", "2025-02-30", "2025-8-1", "3d"),
        *("+3d", "--3d", "-3", "-3m", "-3h", "-d", "-3.5d", "-٣d", "-9999y", "-99999999d", "2025-08-01T00:00"),
    ],
)
def test_no_day_is_guessed(text: str) -> None:
    """What is not of a documented form, or before the first year, is refused."""
    with pytest.raises(ValueError, match="is not a day like"):
        dates.parse_day(text)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("1d", date(2026, 3, 31)),
        ("30d", date(2026, 3, 2)),
        ("30", date(2026, 3, 2)),
        ("1month", date(2026, 3, 1)),
        ("6months", date(2025, 10, 1)),
        ("13 months", date(2025, 3, 1)),
        ("1y", date(2025, 4, 1)),
    ],
)
def test_a_span_ends_with_its_last_day(text: str, first: date) -> None:
    """The last day is one of them: six months that end with March begin with October."""
    assert dates.first_day(dates.parse_span(text), date(2026, 3, 31)) == first


@pytest.mark.parametrize("text", ["", "0d", "0", "-3d", "3m", "3h", "d", "1.5y", "1y6months", "10000d", "a year"])
def test_a_span_is_one_number_and_one_unit(text: str) -> None:
    """Nothing else; m could be minutes or months."""
    with pytest.raises(ValueError, match="is not a span like"):
        dates.parse_span(text)


def test_a_span_that_begins_before_all_days_begins_with_the_first() -> None:
    """So that no span is too long to be asked for."""
    assert dates.first_day(dates.parse_span("9999y"), date(2026, 3, 31)) == date.min
    assert dates.first_day(dates.parse_span("9999d"), date(2, 1, 1)) == date.min


def test_days_in_a_range() -> None:
    """Both ends are in it; over a leap day, to the last day that there is, and none when it ends before it begins."""
    assert dates.days_between(date(2024, 2, 28), date(2024, 3, 1)) == [
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
    ]
    assert dates.days_between(date.max, date.max) == [date.max]
    assert dates.days_between(date(2024, 3, 1), date(2024, 2, 28)) == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-08-02T00:10:11.123456Z", datetime(2025, 8, 2, 0, 10, 11, 123456, tzinfo=UTC)),
        ("2025-08-02T02:10:11+02:00", datetime(2025, 8, 2, 0, 10, 11, tzinfo=UTC)),
        ("2025-08-01 24:00:00z", datetime(2025, 8, 2, tzinfo=UTC)),
    ],
)
def test_upstreams_times_are_iso_8601(text: str, moment: datetime) -> None:
    """With a zone, in UTC."""
    assert dates.parse_instant(text) == moment
    assert dates.parse_instant(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["2025-08-02T00:10:11", "2025-08-02", "yesterday", "", "0001-01-01T00:00:00+10:00"])
def test_a_time_that_could_be_another_is_refused(text: str) -> None:
    """Without a zone, without a time, or before the first year."""
    with pytest.raises(ValueError, match="is not an ISO 8601 time with a zone"):
        dates.parse_instant(text)
