"""Days and moments, all in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def yesterday() -> date:
    """Return the UTC day before today: the newest that upstream can have finished."""
    return datetime.now(UTC).date() - timedelta(days=1)


def day_end(day: date) -> datetime:
    """Return the moment at which a UTC day is over."""
    return datetime.combine(day + timedelta(days=1), time(), UTC)
