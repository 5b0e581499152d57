"""Days, spans of days and moments, all in UTC; nothing here guesses what a text may mean."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time

from dateutil.parser import isoparse
from dateutil.relativedelta import relativedelta
from dateutil.rrule import DAILY, rrule

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,4}) ?(?:(d|days?|)|(w|weeks?)|(months?)|(y|years?))")


def today() -> date:
    """Return the UTC day that is not over yet."""
    return datetime.now(UTC).date()


def yesterday() -> date:
    """Return the UTC day before today: the newest that upstream can have finished."""
    return today() - relativedelta(days=1)


def parse_day(text: str) -> date:
    """Return the day of ``2025-08-01``, ``today``, ``yesterday`` or ``-3d``, a span before today. Raises ValueError."""
    try:
        if text in {"today", "yesterday"}:
            return today() if text == "today" else yesterday()
        if text.startswith("-") and not text[1:].isdigit():
            return today() - parse_span(text[1:])
        return date.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a day like 2025-08-01, yesterday or -3d") from None


def parse_span(text: str) -> relativedelta:
    """Return the length of ``30d``, ``2weeks``, ``13months`` or ``1y``; a number alone is days. Raises ValueError."""
    match = _SPAN.fullmatch(text)
    if match is None or not (count := int(match[1])):
        raise ValueError(f"{text!r} is not a span like 30d, 13months or 1y")
    units = zip(("days", "weeks", "months", "years"), match.groups()[1:], strict=True)
    return relativedelta(**{unit: count for unit, found in units if found is not None})  # type: ignore[arg-type]


def parse_duration(text: str) -> float:
    """Return the seconds of ``90s``, ``30m``, ``2h`` or ``1d``; a number alone is seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time like 90s, 30m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def first_day(span: relativedelta, last: date) -> date:
    """Return the first day of a span that ends with ``last``, which is one of its days."""
    try:
        return last + relativedelta(days=1) - span
    except (ValueError, OverflowError):
        return date.min


def days_between(first: date, last: date) -> list[date]:
    """Return the days from ``first`` to ``last``, both included."""
    begin, end = (datetime.combine(day, time()) for day in (first, last))
    return [moment.date() for moment in rrule(DAILY, dtstart=begin, until=end)]


def last_days(count: int, last: date) -> list[date]:
    """Return so many days, the oldest first, of which ``last`` is the last."""
    return days_between(first_day(relativedelta(days=count), last), last)


def future_day(day: date) -> str | None:
    """Return what is wrong with a day that has not begun in UTC, or None.

    Today's snapshot can be there: its window ends at 00:00 UTC of its day.
    """
    today = datetime.now(UTC).date()
    if day <= today:
        return None
    return f"{day} is in the future: the newest day that upstream can have is today in UTC, {today}"


def day_end(day: date) -> datetime:
    """Return the moment at which a UTC day is over."""
    return datetime.combine(day + relativedelta(days=1), time(), UTC)


def parse_instant(text: str) -> datetime:
    """Return an ISO 8601 time that names its zone, in UTC. Raises ValueError."""
    try:
        if (instant := isoparse(text)).tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is not an ISO 8601 time with a zone")
