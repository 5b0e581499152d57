"""Numbers and moments as the report spells them."""

from __future__ import annotations

from datetime import date, datetime, timedelta


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


def clock(after: timedelta) -> str:
    """Return a time after a day's end as the time of day that it is in UTC: 01:23, or 01:23 (+1) a day later."""
    minutes = round(after.total_seconds() / 60)
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}" + (f" (+{minutes // 1440})" if minutes >= 1440 else "")


def change(part: float) -> str:
    """Return how much more or less something is: +12.3 %, −4 %, ±0 %."""
    percent = f"{abs(part):.0%}" if abs(part) >= 0.1 else f"{abs(part):.1%}"
    sign = "±" if percent == "0.0%" else "+" if part > 0 else "−"
    return f"{sign}{'0' if sign == '±' else percent[:-1]}\N{NO-BREAK SPACE}%"


def shift(by: timedelta) -> str:
    """Return how much later or earlier something is: +12 min, −3 min, ±0 min."""
    minutes = round(by.total_seconds() / 60)
    return f"{'+' if minutes > 0 else '−' if minutes else '±'}{abs(minutes)}\N{NO-BREAK SPACE}min"


def size(count: int) -> str:
    """Return bytes in the unit that suits them: 12 B, 3.4 MB, 1.2 TB."""
    amount, units = float(count), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while amount >= 999.5 and unit != "PB":
        amount, unit = amount / 1_000, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.2g} {unit}"


def days(first: date, last: date) -> str:
    """Return a range of days: one date, or the first and the last."""
    return first.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"


def stem(table: str) -> str:
    """Return a table's name without what all of them begin with."""
    return table.removeprefix("raw_").replace("_", " ")
