"""Find the value that made ClickHouse refuse a file, so that the error names it.

Runs only after a refusal: ClickHouse has decided, this looks for the reason with the same rules and never accepts.
"""

from __future__ import annotations

import math
import re
import struct
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files.conversion import DECIMAL_TEXT, SCALE, WHOLE_DIGITS, Conversion
from pipeline.files.parquet import open_parquet
from pipeline.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE, _SHOWN = 16_384, 80
_EXACT = Context(prec=80)  # more digits than a Parquet decimal has

_ALWAYS_FIT = {"String", "Bool", "Float64"}  # unless NULL, or an integer in Float64


def find_bad_value(path: Path, name: str, conversions: tuple[Conversion, ...], snapshot: Snapshot) -> str | None:
    """Return what is wrong with the first value of the file that does not fit, or None when none is found.

    For example ``degree_in is -1 in row 17 (the first is 0), expected a whole number from 0 to 4294967295``. Raises
    FileError when the file cannot be read.
    """
    wanted = {c.column.name: c for c in conversions if c.read_as}
    of_snapshot = {name: getattr(snapshot, name) for name, c in wanted.items() if c.value.startswith("{")}
    with open_parquet(path, name) as file:
        row = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(wanted)):
            places = {column: _first(batch[column], c, of_snapshot.get(column)) for column, c in wanted.items()}
            found = {column: at for column, at in places.items() if at is not None}
            if found:
                column = min(found, key=lambda column: found[column])
                value, stored = _python(batch[column][found[column]]), wanted[column].column.type
                return _described(column, value, row + found[column], stored, of_snapshot.get(column))
            row += batch.num_rows
    return None


def _first(values: pa.Array, conversion: Conversion, of_snapshot: object) -> int | None:
    """Return the position of the first value that does not fit."""
    stored = conversion.column.type
    if of_snapshot is None and not values.null_count and stored in _ALWAYS_FIT and "int" not in str(values.type):
        return None
    for at, scalar in enumerate(values):
        value = _python(scalar)
        if value is None and conversion.null_is_nan:
            continue
        if not (fits_type(value, stored) if of_snapshot is None else is_of_snapshot(value, of_snapshot)):
            return at
    return None


def _python(scalar: pa.Scalar) -> Any:
    """Return a value as Python's, or as it is when Python has none: the year 12000, text that is not UTF-8."""
    import pyarrow as pa  # noqa: PLC0415  # slow to import; luigi needs it only when a task runs

    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return [_python(item) for item in scalar.values] if isinstance(scalar, pa.ListScalar) else scalar


def _described(name: str, value: Any, row: int, stored: str, of_snapshot: object) -> str:
    """Return what a value is and what it should have been."""
    element = re.fullmatch(r"Array\((.*)\)", stored)
    if element and value is not None:
        at = next(at for at, item in enumerate(value) if not fits_type(item, element[1]))
        return _described(f"{name}[{at}]", value[at], row, element[1], None)
    expected = f"{_meaning(stored, value)} ({stored})" if of_snapshot is None else f"{of_snapshot}, the snapshot's own"
    return f"{name} is {_shown(value)} in row {row} (the first is 0), expected {expected}"


def _meaning(stored: str, value: Any) -> str:
    """Say in words what a column of a ClickHouse type holds."""
    if integer := re.fullmatch(r"UInt(\d+)", stored):
        return f"a whole number from 0 to {2 ** int(integer[1]) - 1}"
    if stored.startswith("Float") and isinstance(value, int):
        return f"a whole number that {stored} holds exactly"
    if stored.startswith("Decimal"):
        if isinstance(value, str):
            return f"text of at most {WHOLE_DIGITS} digits, or of that, a point, and at most {SCALE} digits"
        return f"a number of at most {WHOLE_DIGITS} digits before the point and {SCALE} after it"
    meanings = {"Float32": "a number of single precision's range", "String": "text", "Bool": "true or false"}
    return meanings.get(stored, "a list" if stored.startswith("Array") else "a value")


def _shown(value: Any) -> str:
    """Return a value as an error's text shows it: short, on one line."""
    import pyarrow as pa  # noqa: PLC0415  # slow to import; luigi needs it only when a task runs

    if value is None:
        return "NULL"
    if isinstance(value, pa.StringScalar | pa.LargeStringScalar):
        value = value.as_buffer().to_pybytes()
    if isinstance(value, pa.Scalar):
        return f"{value.value} as {value.type}"
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def is_of_snapshot(value: Any, expected: object) -> bool:
    """Tell whether a value says what the snapshot's key says; a date may be written as text or as its midnight."""
    if not isinstance(expected, date):
        return bool(value == expected)
    if isinstance(value, datetime):
        instant = value if value.tzinfo else value.replace(tzinfo=UTC)
        return instant == datetime.combine(expected, time(), UTC)
    return bool(value in (expected, expected.isoformat()))


def fits_type(value: Any, stored: str) -> bool:
    """Tell whether a value can be stored in a column of a ClickHouse type without changing it."""
    if value is None:
        return False
    if element := re.fullmatch(r"Array\((.*)\)", stored):
        return all(fits_type(item, element[1]) for item in value)
    if integer := re.fullmatch(r"UInt(\d+)", stored):
        return math.isfinite(value) and value == int(value) and 0 <= value < 2 ** int(integer[1])
    if stored.startswith("Decimal"):
        return _fits_decimal(value)
    return _fits_float(value, stored) if stored.startswith("Float") else True


def _fits_decimal(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(DECIMAL_TEXT, value) is not None
    if not isinstance(value, Decimal | int):  # text that is not UTF-8
        return False
    exponent = Decimal(value).normalize(_EXACT).as_tuple().exponent  # abs() and the default context round to 28 digits
    return isinstance(exponent, int) and exponent >= -SCALE and abs(int(value)) < 10**WHOLE_DIGITS


def _fits_float(value: float, stored: str) -> bool:
    """Floats may be rounded but not become infinite; whole numbers must arrive exactly."""
    try:
        # With "<" an overflow is an error, without it is infinity.
        (held,) = struct.unpack("<f", struct.pack("<f", value)) if stored == "Float32" else (float(value),)
    except OverflowError:
        return False
    return held == value if isinstance(value, int) else True
