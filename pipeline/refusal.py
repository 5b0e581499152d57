"""Find the value that made ClickHouse refuse a file, so that the error names it.

Runs only after a refusal: ClickHouse has decided, this looks for the reason with the same rules and never accepts.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.conversion import Conversion
from pipeline.snapshot import Snapshot

_ROWS_AT_ONCE = 16_384


def first_refused(path: Path, conversions: tuple[Conversion, ...], snapshot: Snapshot) -> str | None:
    """Return what is wrong with the first value of the file that does not fit, or None when none is found.

    For example ``degree_in is -1 in row 17, expected UInt32``. Rows count from 0.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415  # slow to import; luigi needs it only when a task runs

    wanted = {c.column.name: c.column.type for c in conversions if c.read_as}
    of_snapshot = {
        c.column.name: getattr(snapshot, c.column.name) for c in conversions if c.read_as and c.value.startswith("{")
    }
    with pq.ParquetFile(path) as file:
        row = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(wanted)):
            found = min(_refused(batch.to_pydict(), wanted, of_snapshot), default=None)
            if found:
                at, name, value = found
                expected = f"{of_snapshot[name]}" if name in of_snapshot else wanted[name]
                return f"{name} is {value} in row {row + at}, expected {expected}"
            row += batch.num_rows
    return None


def _refused(
    batch: Mapping[str, list[Any]], wanted: Mapping[str, str], of_snapshot: Mapping[str, object]
) -> Iterator[tuple[int, str, str]]:
    """Yield each column's first value that does not fit: row in the batch, column, value as text."""
    for name, values in batch.items():
        for row, value in enumerate(values):
            right = _same(value, of_snapshot[name]) if name in of_snapshot else fits(value, wanted[name])
            if not right:
                yield row, name, "NULL" if value is None else repr(value)[:80]
                break


def _same(value: Any, expected: object) -> bool:
    if isinstance(expected, date) and value is not None:
        return str(value) in {expected.isoformat(), f"{expected.isoformat()} 00:00:00"}
    return bool(value == expected)


def fits(value: Any, stored: str) -> bool:
    """Tell whether a value can be stored in a column of a ClickHouse type without changing it."""
    if value is None:
        return False
    if element := re.fullmatch(r"Array\((.*)\)", stored):
        return all(fits(item, element[1]) for item in value)
    if integer := re.fullmatch(r"UInt(\d+)", stored):
        return math.isfinite(value) and value == int(value) and 0 <= value < 2 ** int(integer[1])
    if stored.startswith("Decimal"):
        return _fits_decimal(Decimal(value))
    return _fits_float32(value) if stored == "Float32" else True


def _fits_decimal(value: Decimal) -> bool:
    _, digits, exponent = value.normalize().as_tuple()
    return isinstance(exponent, int) and exponent >= -18 and len(digits) + exponent <= 20


def _fits_float32(value: float) -> bool:
    try:
        struct.pack("f", value)
    except OverflowError:
        return False
    return True
