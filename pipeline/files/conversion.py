"""How a Parquet column becomes a ClickHouse column: explicitly, exactly, or not at all.

ClickHouse's own import changes values silently (-1 into UInt16 becomes 65535, digits of a decimal are cut, NULL becomes
0). So a file is read with its own types and every column is converted by an expression that raises when a value does
not fit. Rounding Float64 to Float32 is the one allowed change.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.tables import CREATED_AT, LOAD_ID, Column, Table

if TYPE_CHECKING:
    import pyarrow as pa

#: Whole digits that Decimal(38, 18) holds. ClickHouse does not check them: Int128 has room for a 39th digit.
WHOLE_DIGITS, SCALE = 20, 18

#: Text of a decimal that fits: digits, maybe a sign, maybe a point with digits on both sides. CAST reads it exactly; of
#: other text it cuts digits, too many places or a negative exponent, without an error (measured on 26.7).
DECIMAL_TEXT = rf"[+-]?0*[0-9]{{1,{WHOLE_DIGITS}}}([.][0-9]{{1,{SCALE}}}0*)?"

#: The smallest Float64 that rounds to an infinite Float32: half a step above the largest finite one.
_FLOAT32_OVERFLOWS = (2 - 2**-24) * 2.0**127


@dataclass(frozen=True)
class Conversion:
    """One column of a load."""

    column: Column  #: as it is stored
    read_as: str | None  #: ClickHouse type of the file's column; None when the file does not bring the column
    value: str  #: the expression that is stored; it raises when a value does not fit
    refused: str | None = None  #: a condition that is true for rows that ``value`` would change silently
    null_is_nan: bool = False  #: whether NULL is stored as NaN


def read_type(arrow: pa.DataType, stored: str | None = None) -> str | None:
    """Return the ClickHouse type that reads an Arrow type unchanged, or None when there is none that we accept.

    A column without a value has Arrow's type ``null``; the type of the column that it is ``stored`` in reads it.
    """
    import pyarrow.types as t  # noqa: PLC0415  # slow to import; luigi needs it only when a task runs

    if t.is_integer(arrow) or t.is_float32(arrow) or t.is_float64(arrow):
        kind = "Int" if t.is_signed_integer(arrow) else "UInt" if t.is_integer(arrow) else "Float"
        return f"{kind}{arrow.bit_width}"
    if t.is_decimal(arrow):
        return f"Decimal({arrow.precision}, {arrow.scale})"
    if t.is_timestamp(arrow):
        return f"DateTime64({ {'s': 0, 'ms': 3, 'us': 6, 'ns': 9}[arrow.unit] }, 'UTC')"
    if t.is_list(arrow) or t.is_large_list(arrow):
        element = read_type(arrow.value_type, _element(stored) if stored else None)
        return f"Array(Nullable({element}))" if element and not element.startswith("Array") else None
    if t.is_null(arrow) and stored:
        element = _element(stored)
        return f"Array(Nullable({element}))" if element else stored
    text = t.is_string(arrow) or t.is_large_string(arrow)
    return "String" if text else "Bool" if t.is_boolean(arrow) else "Date32" if t.is_date32(arrow) else None


def _element(stored: str) -> str | None:
    """Return the type of an array's elements."""
    array = re.fullmatch(r"Array\((.*)\)", stored)
    return array[1] if array else None


def convert(table: Table, file_columns: Mapping[str, pa.DataType]) -> tuple[Conversion, ...]:
    """Return a conversion for each column of a load of ``table``, in the table's order.

    ``file_columns`` are those of a file that :func:`pipeline.files.checks.check_columns` accepted.
    """
    conversions = [_conversion(table, column, file_columns.get(column.name)) for column in table.columns]
    return (*conversions, Conversion(Column(LOAD_ID, "UUID"), None, "{load_id:UUID}"))


def _conversion(table: Table, column: Column, arrow: pa.DataType | None) -> Conversion:
    if column.name == CREATED_AT:
        return Conversion(column, None, "toDateTime({created_at:UInt32})")
    if column.name in table.snapshot_columns:
        return _of_snapshot(column, arrow)
    read_as = read_type(arrow, column.type) if arrow is not None else None
    null_is_nan = read_as is not None and read_as.startswith("Float") and column.name in table.nan_columns
    found = _exact(column, read_as, null_is_nan=null_is_nan) if read_as else None
    if found is None:
        raise ValueError(f"{table.name}.{column.name}: no conversion from {arrow} to {column.type}")
    return found


def is_convertible(table: Table, column: Column, arrow: pa.DataType) -> bool:
    """Tell whether values of an Arrow type can be stored in a column as they are."""
    try:
        _conversion(table, column, arrow)
    except ValueError:
        return False
    return True


def _of_snapshot(column: Column, arrow: pa.DataType | None) -> Conversion:
    """Store the snapshot's own value; where the file has the column, every row must say the same."""
    value = f"{{{column.name}:{column.type}}}"
    if arrow is None:
        return Conversion(column, None, value)
    read_as = read_type(arrow, column.type) or ""
    if column.type == "Date" and read_as == "String":
        expected = f"toString({value})"
    elif column.type == "Date" and read_as.startswith("DateTime64"):
        expected = f"toDateTime64({value}, 9, 'UTC')"
    elif read_as in {column.type, {"Date": "Date32"}.get(column.type)} or (
        column.type == "UInt16" and read_as.startswith(("Int", "UInt"))
    ):
        expected = value
    else:
        raise ValueError(f"{column.name}: no conversion from {arrow} to {column.type}")
    return Conversion(column, f"Nullable({read_as})", value, f"{column.name} != {expected}")


def _exact(column: Column, read_as: str, *, null_is_nan: bool) -> Conversion | None:
    """Return the conversion that changes nothing, or None when there is none."""
    name, stored = column.name, column.type
    if element := _element(stored):
        inner = re.fullmatch(r"Array\(Nullable\((.*)\)\)", read_as)
        kind = _kind(element, inner[1]) if inner else None
        return Conversion(column, read_as, f"{kind}({name}, '{stored}')") if kind in {"CAST", "accurateCast"} else None
    given = f"ifNull({name}, nan)" if null_is_nan else name
    refused = None
    match kind := _kind(stored, read_as):
        case None:
            return None
        case "round":
            refused = f"abs({given}) BETWEEN {_FLOAT32_OVERFLOWS} AND {sys.float_info.max}"
        case "decimal":
            refused = _decimal_refused(name, stored, read_as)
        case "text":
            refused = f"NOT match({name}, '^{DECIMAL_TEXT}$')"
    cast = "accurateCast" if kind == "accurateCast" else "CAST"
    return Conversion(column, f"Nullable({read_as})", f"{cast}({given}, '{stored}')", refused, null_is_nan)


def _kind(stored: str, read_as: str) -> str | None:
    """Name the way from one scalar type to another: CAST and accurateCast raise by themselves, NULL included."""
    is_integer, is_float = re.match(r"U?Int", read_as), read_as.startswith("Float")
    match stored:
        case "String" | "Bool":
            return "CAST" if read_as == stored else None
        case "Float32" if read_as == "Float64":
            return "round"
        case "Float32" | "Float64" if is_float:
            return "CAST"
        case _ if stored.startswith("Decimal"):
            kinds = {"Decimal": "decimal", "String": "text"}
            return kinds.get(read_as.partition("(")[0], "CAST" if is_integer else None)
        case _ if re.match(r"U?Int|Float", stored):
            return "accurateCast" if is_integer or is_float else None
    return None


def _decimal_refused(name: str, stored: str, read_as: str) -> str | None:
    """Return when a decimal does not fit: too many whole digits, or more decimal places than are stored.

    CAST wraps and cuts without an error (measured on 26.7); the way there and back shows both.
    """
    precision, scale = map(int, re.findall(r"\d+", read_as))
    conditions = []
    if precision - scale > WHOLE_DIGITS:
        conditions.append(f"abs(CAST({name}, 'Nullable(Decimal(76, {scale}))')) >= toDecimal256('1e{WHOLE_DIGITS}', 0)")
    if precision - scale > WHOLE_DIGITS or scale > SCALE:
        there = f"CAST({name}, 'Nullable({stored})')"
        conditions.append(f"CAST({there}, 'Nullable(Decimal(76, {scale}))') != {name}")
    return " OR ".join(conditions) or None


def structure(conversions: Iterable[Conversion]) -> str:
    """Return the columns to read from the file, as ``input()`` and ``file()`` take them."""
    return ", ".join(f"{c.column.name} {c.read_as}" for c in conversions if c.read_as)


def select(conversions: Iterable[Conversion]) -> str:
    """Return the SELECT of a load, with ``{input}`` where the rows come from."""
    conversions = tuple(conversions)
    values = ",\n    ".join(c.value for c in conversions)
    refused = [f"({c.refused})" for c in conversions if c.refused]
    # A condition on NULL is NULL, and WHERE would drop the row without a word: NULL is refused, too.
    where = f"\nWHERE throwIf(ifNull({' OR '.join(refused)}, 1), 'a row is refused') = 0" if refused else ""
    return f"SELECT\n    {values}\nFROM {{input}}{where}"
