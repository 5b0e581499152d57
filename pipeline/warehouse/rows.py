"""Rows of queries as what they are about: a column a field, in the order of the fields."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, TypeVar, get_type_hints
from uuid import UUID

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def moment(count: int | str) -> datetime:
    """Return the time so many microseconds after 1970, as toUnixTimestamp64Micro gives them; UTC."""
    return _EPOCH + timedelta(microseconds=int(count))


def time_ordered_id(time: datetime) -> str:
    """Return a UUID of version 7: those of later milliseconds are greater, and no two are the same."""
    value = micros(time) // 1_000 << 80 | 7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(UUID(int=value))


#: How the values of fields are read from what every warehouse returns; those of other types are as they come.
_READ: dict[object, Callable[[Any], Any]] = {
    date: date.fromisoformat,
    datetime: moment,
    bool: bool,
    int: int,
    float: float,
    dict[str, Any]: lambda text: json.loads(text or "{}"),
}


def read_row(kind: Callable[..., T], row: Iterable[Any], *first: Any) -> T:
    """Return a dataclass of a row, which has a column for each field but those that are given ``first``.

    Days and fractions come as text, times as microseconds since 1970, facts as JSON.
    """
    return kind(*first, *(read(value) for read, value in zip(_readers(kind)[len(first) :], row, strict=True)))


@cache
def _readers(kind: Any) -> list[Callable[[Any], Any]]:
    hints = get_type_hints(kind)
    return [_READ.get(hints[field.name], lambda value: value) for field in fields(kind)]
