"""Numbers and moments as the report spells them."""

from __future__ import annotations

from datetime import datetime, timedelta


def number(count: int) -> str:
    """Return a count with thousands apart."""
    return f"{count:,}"


def moment(at: datetime) -> str:
    """Return a moment to the minute."""
    return f"{at:%Y-%m-%d %H:%M}"


def seconds(count: float) -> str:
    """Return a duration in the unit that suits it: 0.04 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if count < 10:
        return f"{count:.2g} s" if count >= 0.01 else "under 0.01 s"
    if count < 60:
        return f"{count:.0f} s"
    minutes, rest = divmod(round(count), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def age(span: timedelta) -> str:
    """Return how long ago something was: 5 min, 7 h 30 min, 2 days 4 h."""
    minutes = max(0, int(span.total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min"
    return f"{hours // 24} days {hours % 24} h"


def stem(table: str) -> str:
    """Return a table's name without what all of them begin with."""
    return table.removeprefix("raw_").replace("_", " ")
