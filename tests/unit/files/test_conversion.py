"""No silent change of a value: what a file holds arrives as it is, or is refused by the real engines.

One column at a time goes the way that it goes in a load: footer, columns, lists, conversion, INSERT. What to expect is
said here without the pipeline's rules, so that the two can contradict each other.
"""

from __future__ import annotations

import io
import itertools
import math
import struct
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedValueError, SchemaError
from pipeline.files.bad_value import find_bad_value, fits_type
from pipeline.files.checks import check_columns, check_lists
from pipeline.files.conversion import convert, is_convertible, select, structure
from pipeline.files.parquet import read_footer
from pipeline.snapshot import Snapshot
from pipeline.tables import Column, Table
from pipeline.warehouse import ParquetInsert, RowsRefusedError, Warehouse
from tests.support.warehouses import embedded, on_server

SNAPSHOT = Snapshot("torus", date(2025, 8, 1), 195)
D = Decimal
DECIMAL = "Decimal(38, 18)"


@dataclass
class Columns:
    """A warehouse with a scratch table for each type that is stored."""

    warehouse: Warehouse
    parquet: Callable[[str], bytes]  #: a query's rows, read without the pipeline
    directory: Path
    tables: dict[tuple[str, str], str] = field(default_factory=dict)

    def store(self, stored: str, values: pa.Array, name: str = "v", *, nan: bool = False, **writer: Any) -> list[Any]:
        """Load a column's values and return what is in the table then. Raises SchemaError, RefusedValueError."""
        path = self.directory / "v.parquet"
        pq.write_table(values if isinstance(values, pa.Table) else pa.table({name: values}), path, **writer)
        table = one_column(name, stored, nan=nan)
        footer = read_footer(path, "v.parquet")
        check_columns(footer, table, "v.parquet", ignore_extra=False)
        check_lists(path, table, "v.parquet")
        load_id = str(uuid.uuid4())
        conversions = convert(table, footer.columns)
        insert = ParquetInsert(
            path=path,
            into=f"{{database}}.{self._table(name, stored)} ({name}, load_id)",
            select=select(conversions),
            structure=structure(conversions),
            parameters={
                "load_id": load_id,
                "processing_date": SNAPSHOT.processing_date.isoformat(),
                "window_days": SNAPSHOT.window_days,
                "network": SNAPSHOT.network,
            },
        )
        try:
            self.warehouse.insert_parquet(insert, query_id=f"q-{load_id}", report=lambda _: None)
        except RowsRefusedError:
            found = find_bad_value(path, "v.parquet", conversions, SNAPSHOT)
            raise RefusedValueError(str(found), hint="") from None
        query = f"SELECT {name} FROM {{db}}.{self._table(name, stored)} WHERE load_id = '{load_id}'"
        text = "SETTINGS output_format_parquet_string_as_string = 1, output_format_parquet_date_as_uint16 = 0"
        stored_values: list[Any] = pq.read_table(io.BytesIO(self.parquet(f"{query} {text}")))[name].to_pylist()
        return stored_values

    def _table(self, name: str, stored: str) -> str:
        if (name, stored) not in self.tables:
            table = self.tables[name, stored] = f"scratch_{len(self.tables)}"
            statement = f"CREATE TABLE {{database}}.{table} ({name} {stored}, load_id UUID) ENGINE = Memory"
            self.warehouse.execute(statement)
        return self.tables[name, stored]


def one_column(name: str, stored: str, *, nan: bool = False) -> Table:
    """Return a table of one column, in which NULL may stand for NaN."""
    of_snapshot = (name,) if name in {"processing_date", "window_days", "network"} else ()
    nan_columns = (name,) if nan else ()
    table = Table("scratch", "scratch", key=(name,), snapshot_columns=of_snapshot, nan_columns=nan_columns)
    table.__dict__["columns"] = (Column(name, stored),)  # instead of what schema/scratch.sql would say
    return table


@pytest.fixture(scope="module", params=["server", "embedded"])
def columns(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Columns]:
    """Both warehouses, in this process."""
    directory = tmp_path_factory.mktemp("values")
    if request.param == "embedded":
        opened = embedded(directory / "warehouse")
    else:
        opened = on_server(request.getfixturevalue("clickhouse"))
    with opened as databases:
        warehouse = databases.new()
        yield Columns(warehouse, lambda query: databases.parquet(warehouse.database, query), directory)


def bits(value: Any) -> Any:
    """Return a float as its bits, so that -0.0 is not 0.0 and NaN is NaN; anything else as it is."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return value


def as_stored(value: Any, stored: str) -> Any:
    """Return what ClickHouse must hold: IEEE rounding to single precision, and nothing else, may change a value."""
    match stored:
        case "Float32":
            return bits(pa.array([float(value)], pa.float64()).cast(pa.float32())[0].as_py())
        case "Float64":
            return bits(float(value))
        case "Decimal(38, 18)":
            return D(value)
        case _:
            return value


ACCEPTED: list[tuple[str, pa.DataType, list[Any]]] = [
    *((f"UInt{n}", pa.int64(), [0, 1, min(2**n, 2**63) - 1]) for n in (8, 16, 32, 64)),
    *((f"UInt{n}", pa.uint64(), [0, 2**n - 1]) for n in (8, 16, 32, 64)),
    *((f"UInt{n}", pa.int8(), [0, 127]) for n in (8, 16, 32, 64)),
    *((f"UInt{n}", pa.uint8(), [0, 255]) for n in (8, 16, 32, 64)),
    *((f"UInt{n}", pa.float64(), [0.0, -0.0, 5.0, float(min(2**n, 2**53) - 1)]) for n in (8, 16, 32, 64)),
    ("UInt64", pa.float64(), [2.0**63, 2.0**64 - 2048]),
    *((f"UInt{n}", pa.float32(), [0.0, -0.0, float(2**n - 2 ** max(n - 24, 0))]) for n in (8, 16, 32, 64)),
    ("Float64", pa.float64(), [0.1, -0.0, 0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]),
    ("Float64", pa.float32(), [0.5, math.nan, math.inf, -0.0, 2.0**-149]),
    *((f"Float{n}", pa.uint64(), [0, 2**24, 2**63]) for n in (32, 64)),
    ("Float64", pa.int64(), [0, -1, 2**53, -(2**53), 2**62, -(2**63)]),
    ("Float32", pa.float32(), [0.5, math.nan, math.inf, -math.inf, -0.0, 2.0**-149]),
    ("Float32", pa.float64(), [0.1, 1 / 3, -0.0, math.nan, math.inf, -math.inf, 2.0**-149, 2.0**-150, 5e-324]),
    ("Float32", pa.float64(), [16777217.0, 16777219.0, 3.4028234663852886e38, 3.4028235677973362e38]),  # ties, the edge
    ("Float32", pa.int64(), [0, -1, 2**24, 2**53, -(2**63)]),
    (DECIMAL, pa.decimal128(38, 18), [D(0), D("1e-18"), D("-1e-18")]),
    (DECIMAL, pa.decimal128(38, 18), [D(f"{sign}{'9' * 20}.{'9' * 18}") for sign in "+-"]),
    (DECIMAL, pa.decimal128(5, 2), [D("999.99"), D("-999.99")]),
    (DECIMAL, pa.decimal128(18, 18), [D("0." + "9" * 18)]),
    (DECIMAL, pa.decimal128(38, 0), [D("9" * 20), D("-" + "9" * 20), D("1e19")]),
    (DECIMAL, pa.decimal128(38, 19), [D("1e-18"), D("1234567890123456789.1234567890123456780")]),
    (DECIMAL, pa.decimal128(38, 38), [D("0.1"), D("-0.000000000000000001")]),
    (DECIMAL, pa.decimal256(76, 18), [D(f"{sign}{'9' * 20}.{'9' * 18}") for sign in "+-"]),
    (DECIMAL, pa.decimal256(76, 38), [D("12345678901234567890.123456789012345678"), D("-1e-18")]),
    (DECIMAL, pa.decimal256(76, 0), [D("9" * 20)]),
    (DECIMAL, pa.decimal256(76, 76), [D("0.5")]),
    (DECIMAL, pa.int64(), [0, 2**63 - 1, -(2**63)]),
    (DECIMAL, pa.uint64(), [2**64 - 1]),
    (DECIMAL, pa.large_string(), ["0", "-0", "+1.5", "-1.50", "0.0", "7", "100000000000.1", "-0.000000000000000001"]),
    (DECIMAL, pa.string(), [f"{sign}{'9' * 20}.{'9' * 18}" for sign in ("", "+", "-")]),
    (DECIMAL, pa.string(), ["00012.50", "0" * 60 + "7.25", "0.5" + "0" * 60, "0" * 99, "-" + "0" * 40 + "9" * 20]),
    ("Bool", pa.bool_(), [True, False]),
    ("String", pa.large_string(), ["", " ", "😀 ﷽", "a\0b", "\t\n\r", "\"'`", "\\N", "\\", "{x:String}", "NULL"]),
    ("String", pa.large_string(), ["x" * 99_999]),
    ("String", pa.string(), ["", "a\0b"]),
    ("Array(UInt16)", pa.list_(pa.int64()), [[], [0, 65535], [0] * 3000]),
    ("Array(UInt16)", pa.large_list(pa.uint64()), [[], [65535]]),
    ("Array(UInt16)", pa.list_(pa.float64()), [[], [5.0]]),
    ("Array(String)", pa.list_(pa.string()), [[], [""], ["a\0b", "😀", "'"]]),
]  # fmt: skip

REFUSED: list[tuple[str, pa.DataType, list[Any]]] = [
    *((f"UInt{n}", pa.int64(), [-1, -(2**63), 2**n, 2**40, None]) for n in (8, 16, 32)),
    ("UInt64", pa.int64(), [-1, -(2**63), None]),
    *((f"UInt{n}", pa.uint64(), [2**n, 2**64 - 1]) for n in (8, 16, 32)),
    *((f"UInt{n}", pa.float64(), [5.5, -1.0, 2.0**n, 1e300, 5e-324, None]) for n in (8, 16, 32, 64)),
    *((f"UInt{n}", pa.float64(), [math.nan, math.inf, -math.inf]) for n in (8, 16, 32, 64)),
    ("UInt8", pa.int8(), [-1, None]),
    ("UInt64", pa.float32(), [2.0**64, 0.5]),
    ("Float64", pa.int64(), [2**53 + 1, 2**63 - 1, None]),
    ("Float64", pa.uint64(), [2**64 - 1]),
    ("Float64", pa.float64(), [None]),
    ("Float32", pa.int64(), [2**24 + 1, 2**63 - 1, None]),
    ("Float32", pa.float64(), [1e300, -1e300, 3.4028235677973366e38, -3.4028235677973366e38, None]),
    ("Float32", pa.float32(), [None]),
    (DECIMAL, pa.decimal128(38, 18), [None]),
    (DECIMAL, pa.decimal128(38, 0), [D("1e20"), D("-1e20"), D("1.5e20"), D("1e37"), D("9" * 38), D(-(10**37)), None]),
    (DECIMAL, pa.decimal128(38, 19), [D("1e-19"), D("1234567890123456789.1234567890123456789"), None]),
    (DECIMAL, pa.decimal128(38, 38), [D("1e-38"), D("-1e-19")]),
    (DECIMAL, pa.decimal256(76, 18), [D("1e20"), D("-1e20"), D("1.5e20"), D("1.7e20"), D(2**128), D("9" * 58), None]),
    (DECIMAL, pa.decimal256(76, 38), [D("12345678901234567890.1234567890123456789"), D("1e37"), D("1e-38")]),
    (DECIMAL, pa.decimal256(76, 0), [D("1e20"), D("9" * 76)]),
    (DECIMAL, pa.int64(), [None]),
    (DECIMAL, pa.large_string(), [None, "", " ", " 1", "1 ", "1\n", "\n1", "\t1", "1\r\n", "1\0", "\0", "1\u00a0"]),
    (DECIMAL, pa.large_string(), ["1.", ".5", ".", "-", "+", "--1", "+-1", "- 1", "1-", "1.-5", "1.2.3", "\ufeff1"]),
    (DECIMAL, pa.large_string(), ["1e5", "1E5", "1E-18", "0e0", "1e", "1e400", "1e-400", "0x10", "1/2", "1d", "1%"]),
    (DECIMAL, pa.large_string(), ["nan", "NaN", "inf", "-Infinity", "NULL", "None", "true", "1 000", "1_000", "1,5"]),
    (DECIMAL, pa.large_string(), ["\u0661", "\uff11", "\u00b2", "one", "$1", "'1'"]),
    (DECIMAL, pa.string(), ["9" * 21, "-" + "9" * 21, "1" + "0" * 20, "9" * 39, "1" + "0" * 99]),
    (DECIMAL, pa.string(), ["0." + "0" * 18 + "1", "1." + "0" * 18 + "1", f"-{'9' * 20}.{'9' * 19}", "0." + "3" * 99]),
    ("Bool", pa.bool_(), [None]),
    ("String", pa.large_string(), [None]),
    ("Array(UInt16)", pa.list_(pa.int64()), [None, [None], [1, None], [-1], [65536], [1, 2**40]]),
    ("Array(UInt16)", pa.list_(pa.float64()), [[5.5], [math.nan], [math.inf], [65536.0]]),
    ("Array(UInt16)", pa.large_list(pa.uint64()), [None, [2**64 - 1]]),
    ("Array(String)", pa.list_(pa.string()), [None, [None], ["x", None]]),
]  # fmt: skip

INCONVERTIBLE = [
    ("UInt32", pa.string()), ("UInt32", pa.bool_()), ("UInt8", pa.decimal128(5, 0)), ("UInt64", pa.timestamp("ms")),
    ("Float32", pa.string()), ("Float32", pa.decimal128(5, 2)), ("Float64", pa.bool_()), ("Float64", pa.float16()),
    (DECIMAL, pa.float64()), (DECIMAL, pa.binary()), ("Bool", pa.int64()), ("Bool", pa.string()),
    ("String", pa.int64()), ("String", pa.binary()), ("String", pa.date32()), ("String", pa.list_(pa.string())),
    ("Array(String)", pa.string()), ("Array(String)", pa.list_(pa.int64())), ("Array(String)", pa.list_(pa.binary())),
    ("Array(UInt16)", pa.list_(pa.string())), ("Array(UInt16)", pa.int64()), ("Array(UInt16)", pa.list_(pa.bool_())),
    ("Array(UInt16)", pa.list_(pa.list_(pa.int64()))), ("UInt8", pa.struct([("a", pa.int64())])),
]  # fmt: skip


def name_of(value: Any) -> str:
    """Name a case by what it is about."""
    return str(value)[:40] if isinstance(value, str | pa.DataType) else repr(value)[:40]


@pytest.mark.parametrize(("stored", "arrow", "values"), ACCEPTED, ids=name_of)
def test_what_fits_arrives_as_it_is(columns: Columns, stored: str, arrow: pa.DataType, values: list[Any]) -> None:
    """Every edge of what a column can hold, bit for bit; only Float64 to Float32 rounds, as IEEE 754 says."""
    found = columns.store(stored, pa.array(values, arrow))
    assert [bits(value) for value in found] == [as_stored(value, stored) for value in values]
    assert all(fits_type(value, stored) for value in values)


@pytest.mark.parametrize(
    ("stored", "arrow", "value"),
    [(stored, arrow, value) for stored, arrow, values in REFUSED for value in values],
    ids=name_of,
)
def test_what_does_not_fit_is_refused(columns: Columns, stored: str, arrow: pa.DataType, value: object) -> None:
    """One value among good ones stops the load, and the error names that value and its row."""
    good = next(values[0] for type_, other, values in ACCEPTED if (type_, other) == (stored, arrow))
    with pytest.raises(RefusedValueError, match=r" in row 1\b"):
        columns.store(stored, pa.array([good, value, good], arrow))


@pytest.mark.parametrize(("stored", "arrow"), INCONVERTIBLE, ids=name_of)
def test_a_type_without_an_exact_conversion_is_refused(stored: str, arrow: pa.DataType, tmp_path: Path) -> None:
    """Whatever the values are: the difference is in the message, before any engine is asked."""
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"v": pa.nulls(1, arrow)}), path)
    with pytest.raises(SchemaError, match="which cannot be stored as"):
        check_columns(read_footer(path, "v.parquet"), one_column("v", stored), "v.parquet", ignore_extra=False)


DAY = date(2025, 8, 1)
MIDNIGHT = datetime(2025, 8, 1)  # noqa: DTZ001  # as Parquet files have it
NS = int(MIDNIGHT.timestamp() - datetime(1970, 1, 1).timestamp()) * 10**9  # noqa: DTZ001


def raw(values: list[int], arrow: pa.DataType, physical: pa.DataType) -> pa.Array:
    """Return an array by its physical values, for those that Python has no object for."""
    return pa.array(values, physical).view(arrow)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([DAY]),
        pa.array(["2025-08-01"]),
        pa.array(["2025-08-01"], pa.large_string()),
        *(pa.array([MIDNIGHT], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        *(pa.array([MIDNIGHT], pa.timestamp(unit, "UTC")) for unit in ("ms", "us", "ns")),
        pa.array([NS // 10**6], pa.int64()).view(pa.timestamp("ms", "Asia/Tokyo")),
    ],
    ids=lambda values: str(values.type),
)
def test_a_date_may_be_spelled_in_these_ways(columns: Columns, values: pa.Array) -> None:
    """A date, text, or a timestamp at midnight UTC: upstream writes all three."""
    assert columns.store("Date", values, "processing_date") == [DAY]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([DAY, date(2025, 8, 2)]),
        pa.array([DAY, None]),
        raw([20301, 20301 + 2**16], pa.date32(), pa.int32()),  # equal once cut to a Date's 16 bits
        raw([20301, 2**31 - 1], pa.date32(), pa.int32()),
        raw([20301, -(2**31)], pa.date32(), pa.int32()),
        *(pa.array(["2025-08-01", text]) for text in ("2025-08-02", "2025-8-1", "2025-08-01 00:00:00", "20250801", "")),
        pa.array(["2025-08-01", None]),
        pa.array([b"2025-08-01", b"2025-08-01\xff"], pa.binary()).view(pa.string()),
        *(pa.array([MIDNIGHT, MIDNIGHT.replace(hour=1)], pa.timestamp(unit)) for unit in ("ms", "us", "ns")),
        pa.array([MIDNIGHT, MIDNIGHT.replace(day=2)], pa.timestamp("ms")),
        pa.array([MIDNIGHT, MIDNIGHT.replace(day=2)], pa.timestamp("ms", "UTC")),
        pa.array([MIDNIGHT, None], pa.timestamp("ms")),
        raw([NS, NS + 1], pa.timestamp("ns"), pa.int64()),
        raw([NS // 1000, 2**62], pa.timestamp("us"), pa.int64()),
        raw([NS // 10**6, -(2**62)], pa.timestamp("ms"), pa.int64()),
    ],
    ids=lambda values: f"{values.type}, {values[1:].to_string().split()[1]}",
)
def test_a_row_of_another_date_is_refused(columns: Columns, values: pa.Array) -> None:
    """The second row is not of the snapshot's date, however that is written; the first row is not to blame."""
    with pytest.raises(RefusedValueError, match=r"processing_date is .* in row 1\b.*, expected 2025-08-01"):
        columns.store("Date", values, "processing_date")


@pytest.mark.parametrize("value", [7, 0, -1, 195 + 65536, 195 - 65536, None])
def test_a_row_of_another_window_is_refused(columns: Columns, value: int | None) -> None:
    """Also one that is equal once cut to 16 bits."""
    assert columns.store("UInt16", pa.array([195]), "window_days") == [195]
    with pytest.raises(RefusedValueError, match=r"window_days is .* in row 1\b.*, expected 195"):
        columns.store("UInt16", pa.array([195, value]), "window_days")


@pytest.mark.parametrize("value", ["bitcoin", "Torus", "torus ", "", "torus\0", None])
def test_a_row_of_another_network_is_refused(columns: Columns, value: str | None) -> None:
    """Byte for byte."""
    assert columns.store("String", pa.array(["torus"]), "network") == ["torus"]
    with pytest.raises(RefusedValueError, match=r"network is .* in row 1\b.*, expected torus"):
        columns.store("String", pa.array(["torus", value]), "network")


@pytest.mark.parametrize("undecodable", [b"1\xff", b"\xff"])
def test_an_amount_that_is_not_text_is_refused(columns: Columns, undecodable: bytes) -> None:
    """Bytes that are not UTF-8, where an amount is written as text."""
    with pytest.raises(RefusedValueError, match=r"v is b'.*' in row 1\b"):
        columns.store(DECIMAL, pa.array([b"1", undecodable], pa.binary()).view(pa.string()))


#: What a writer notes of its own types in ARROW:schema, where the Parquet schema says another type.
NOTED: list[tuple[str, pa.DataType, list[Any]]] = [
    *(
        ("String", pa.dictionary(index, text), ["a", "", "a"])
        for index in (pa.int8(), pa.uint32(), pa.int64()) for text in (pa.string(), pa.large_string())
    ),
    ("String", pa.dictionary(pa.int8(), pa.string(), ordered=True), ["a", "b"]),
    ("String", pa.string_view(), ["", "longer than twelve bytes"]),
    ("String", pa.json_(), ["{}"]),
    (DECIMAL, pa.dictionary(pa.int32(), pa.string()), ["1.5"]),
    (DECIMAL, pa.string_view(), ["1.5"]),
    (DECIMAL, pa.decimal32(9, 2), [D("1.5")]),
    (DECIMAL, pa.decimal64(18, 2), [D("1.5")]),
    *(("UInt64", pa.dictionary(pa.int32(), value), [1, 2]) for value in (pa.int64(), pa.uint8())),
    ("UInt64", pa.duration("us"), [timedelta(microseconds=5)]),
    ("UInt32", pa.uint32(), [1, 2**32 - 1]),
    ("Float64", pa.dictionary(pa.int32(), pa.float64()), [0.5]),
    ("Array(String)", pa.list_(pa.dictionary(pa.int32(), pa.string())), [["a"], []]),
    *(("Array(String)", make(pa.string_view()), [["a"], []]) for make in (pa.list_, pa.large_list)),
    *(("Array(String)", make(pa.large_string()), [["a"], []]) for make in (pa.large_list, pa.list_view)),
    ("Array(UInt16)", pa.list_(pa.int64(), 2), [[1, 2], [3, 4]]),
    ("Array(UInt16)", pa.large_list_view(pa.int64()), [[1, 2], []]),
]  # fmt: skip


@pytest.mark.parametrize("version", ["1.0", "2.6"])
@pytest.mark.parametrize(("stored", "arrow", "values"), NOTED, ids=name_of)
def test_the_parquet_schema_decides_and_not_what_the_writer_noted(
    columns: Columns, stored: str, arrow: pa.DataType, values: list[Any], version: str
) -> None:
    """The same pages with and without ARROW:schema arrive alike: pandas' and polars' categories, views, lists."""
    plain = [value // timedelta(microseconds=1) if isinstance(value, timedelta) else value for value in values]
    for noted in (True, False):
        found = columns.store(stored, pa.array(values, arrow), version=version, store_schema=noted)
        assert [bits(value) for value in found] == [as_stored(value, stored) for value in plain]


@pytest.mark.parametrize("arrow", [pa.dictionary(pa.int8(), pa.string()), pa.string_view()], ids=name_of)
@pytest.mark.parametrize("noted", [True, False])
def test_a_bad_value_is_named_whatever_the_writer_noted(columns: Columns, arrow: pa.DataType, *, noted: bool) -> None:
    """Text that is NULL, no amount, or another date."""
    days = ["2025-08-01", "2025-08-02"]
    for stored, name, values in [
        ("String", "v", ["a", None]), (DECIMAL, "v", ["1", "x"]), ("Date", "processing_date", days),
    ]:  # fmt: skip
        with pytest.raises(RefusedValueError, match=rf"{name} is .* in row 1\b"):
            columns.store(stored, pa.array(values, arrow), name, store_schema=noted)


@pytest.mark.parametrize("noted", [b"", b"no schema", b64encode(pa.schema([("v", pa.binary())]).serialize())])
def test_a_note_that_is_wrong_makes_no_difference(columns: Columns, noted: bytes) -> None:
    """Nothing, what pyarrow cannot read, and another type."""
    table = pa.table({"v": ["a"]}).replace_schema_metadata({"ARROW:schema": noted})
    assert columns.store("String", table, store_schema=False) == ["a"]


STORED = sorted({stored for stored, *_ in ACCEPTED})


@pytest.mark.parametrize("stored", STORED)
def test_a_column_without_values_has_any_type(columns: Columns, stored: str) -> None:
    """A file without rows has columns of the type null; with rows they are NULL, which is named and refused."""
    assert columns.store(stored, pa.nulls(0)) == []
    with pytest.raises(RefusedValueError, match=r"^v(\.parquet: v)? is NULL in row 0 .*, expected"):
        columns.store(stored, pa.nulls(3))


@pytest.mark.parametrize(
    ("stored", "name"), [("Date", "processing_date"), ("UInt16", "window_days"), ("String", "network")]
)
def test_a_column_of_the_snapshot_without_values_has_any_type(columns: Columns, stored: str, name: str) -> None:
    """The same of what every row must say."""
    assert columns.store(stored, pa.nulls(0), name) == []
    with pytest.raises(RefusedValueError, match=rf"{name} is NULL in row 0\b.*, the snapshot's own"):
        columns.store(stored, pa.nulls(3), name)


@pytest.mark.parametrize("list_of", [pa.list_, pa.large_list])
@pytest.mark.parametrize("stored", [stored for stored in STORED if stored.startswith("Array")])
def test_lists_that_are_all_empty_are_of_any_type(columns: Columns, stored: str, list_of: Callable[..., Any]) -> None:
    """pandas writes list<null> when no alert of a quiet day has an indicator; NULL in a list, or as one, is refused."""
    assert columns.store(stored, pa.array([[], []], list_of(pa.null()))) == [[], []]
    assert columns.store(stored, pa.array([], list_of(pa.null()))) == []
    for bad in (None, [None]):
        with pytest.raises(RefusedValueError, match=r"v(\[0\])? is NULL in row 1\b"):
            columns.store(stored, pa.array([[], bad], list_of(pa.null())))


@pytest.mark.parametrize("stored", ["Float32", "Float64"])
@pytest.mark.parametrize("arrow", [pa.float32(), pa.float64(), pa.null()], ids=name_of)
def test_null_is_nan_where_upstream_computes_that(columns: Columns, stored: str, arrow: pa.DataType) -> None:
    """In the columns that the table names; any other value is as in any other column."""
    values = [None, None] if arrow == pa.null() else [0.5, None, math.nan, -math.inf, None]
    found = columns.store(stored, pa.array(values, arrow), nan=True)
    assert [bits(value) for value in found] == [bits(math.nan if value is None else value) for value in values]
    assert columns.store(stored, pa.array([], arrow), nan=True) == []


@pytest.mark.parametrize(
    ("stored", "arrow", "value"), [("Float32", pa.float64(), 1e300), ("Float64", pa.int64(), 2**53 + 1)], ids=name_of
)
def test_a_column_with_nan_refuses_as_any_other(
    columns: Columns, stored: str, arrow: pa.DataType, value: float
) -> None:
    """The value that does not fit is named, and no NULL before it."""
    good = None if arrow == pa.float64() else 1
    with pytest.raises(RefusedValueError, match=r"v is \S+ in row 1\b"):
        columns.store(stored, pa.array([good, value], arrow), nan=True)


def test_whole_numbers_are_no_nan(columns: Columns) -> None:
    """pandas writes a column with NaN as floats: NULL among integers is something else."""
    with pytest.raises(RefusedValueError, match=r"v is NULL in row 1\b"):
        columns.store("Float64", pa.array([1, None], pa.int64()), nan=True)


def integers(bound: int, arrow: pa.DataType) -> st.SearchStrategy[int]:
    """Return integers of an Arrow type, many of them near the edges of a column's range."""
    width = arrow.bit_width
    low, high = (0, 2**width - 1) if str(arrow).startswith("u") else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    edges = [edge + near for edge in (0, bound, 2**24, 2**53, low, high) for near in (-1, 0, 1)]
    return st.sampled_from([edge for edge in edges if low <= edge <= high]) | st.integers(low, high)


def floats(width: int) -> st.SearchStrategy[float]:
    """Return any float, and floats that are whole numbers near the edges of integers."""
    whole = st.builds(lambda power, near: float(2**power + near), st.integers(0, 64), st.integers(-1, 1))
    if width == 64:
        return st.floats() | whole
    return st.floats(width=32) | whole.map(lambda value: struct.unpack("<f", struct.pack("<f", value))[0])


TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # no halves of UTF-16 pairs


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    """Return any decimal of a type; many have few digits, or end in zeros."""
    any_digits = st.integers(-(10**precision) + 1, 10**precision - 1)
    few = st.builds(lambda n, zeros: n * 10**zeros, st.integers(-999, 999), st.integers(0, precision - 3))
    return (any_digits | few).map(lambda n: Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -scale)))


PROPERTIES: list[tuple[str, pa.DataType, st.SearchStrategy[Any]]] = [
    *((f"UInt{n}", arrow, integers(2**n, arrow)) for n in (8, 16, 32, 64) for arrow in (pa.int64(), pa.uint64())),
    *((f"UInt{n}", pa.float64(), floats(64)) for n in (16, 64)),
    ("UInt32", pa.float32(), floats(32)),
    *((f"Float{n}", arrow, integers(2**24, arrow)) for n in (32, 64) for arrow in (pa.int64(), pa.uint64())),
    ("Float32", pa.float64(), floats(64)),
    ("Float64", pa.float64(), floats(64)),
    *(
        (DECIMAL, make(precision, scale), decimals(precision, scale))
        for make, precision, scale in [
            (pa.decimal128, 38, 18), (pa.decimal128, 38, 17), (pa.decimal128, 38, 19), (pa.decimal128, 20, 19),
            (pa.decimal256, 40, 18), (pa.decimal256, 76, 38), (pa.decimal256, 76, 10), (pa.decimal256, 60, 55),
        ]
    ),
    (DECIMAL, pa.large_string(), st.text("0059.+-e ", max_size=45)),
    (DECIMAL, pa.string(), decimals(45, 20).map(lambda value: format(value, "f"))),
    ("String", pa.large_string(), TEXT),
    ("Array(UInt16)", pa.list_(pa.int64()), st.lists(integers(2**16, pa.int64()), max_size=4)),
    ("Array(UInt16)", pa.list_(pa.int64()), st.lists(st.none() | st.integers(0, 65535), max_size=4)),
    ("Array(String)", pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=4)),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "arrow", "values"), PROPERTIES, ids=name_of)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_engine_and_the_rules_agree(
    columns: Columns, stored: str, arrow: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    """Whatever the values: if all fit by the rules the rows arrive exactly, else the load is refused."""
    drawn = data.draw(st.lists(st.none() | values, min_size=1, max_size=4) | st.lists(values, min_size=1, max_size=2))
    misfits = [row for row, value in enumerate(drawn) if not fits_type(value, stored)]
    if stored.startswith("Array") and None in drawn:
        misfits = [drawn.index(None)]  # lists that are NULL are found before the load
    if misfits:
        with pytest.raises(RefusedValueError, match=rf" in row {misfits[0]}\b"):
            columns.store(stored, pa.array(drawn, arrow))
    else:
        found = columns.store(stored, pa.array(drawn, arrow))
        assert [bits(value) for value in found] == [as_stored(value, stored) for value in drawn]


SCALARS = [pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_(), pa.large_string()]


@pytest.mark.parametrize(
    ("stored", "arrow"), list(itertools.product(sorted({stored for stored, *_ in ACCEPTED}), SCALARS)), ids=name_of
)
def test_the_edges_of_every_conversion_are_tried(stored: str, arrow: pa.DataType) -> None:
    """A new conversion wants its edges above."""
    table = one_column("v", stored)
    if is_convertible(table, table.columns[0], arrow):
        assert (stored, arrow) in [(other, type_) for other, type_, _ in ACCEPTED]
