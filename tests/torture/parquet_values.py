"""Values and types in a Parquet file that their columns cannot hold; the manifest lists what is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa

from tests.support.snapshots import SnapshotFiles
from tests.torture.defect import ALERTS, CLUSTERS, FEATURES, LABELS, Defect, parquet

_ROW = 3
_MIDNIGHT = datetime(2025, 8, 1)  # noqa: DTZ001  # as Parquet files have it
_LATER = datetime(2025, 8, 1, 0, 0, 0, 1)  # noqa: DTZ001  # the same

#: In one row: table, column, value, and the file's type where it is not upstream's.
_VALUES: tuple[tuple[str, str, object, pa.DataType | None], ...] = (
    (FEATURES, "peak_hour", 256, None),
    (FEATURES, "peak_hour", -1, None),
    (FEATURES, "degree_in", 2**32, None),
    (FEATURES, "degree_in", -(2**63), None),
    (FEATURES, "tx_in_count", -1, None),
    (FEATURES, "tx_in_count", 2.0**64, pa.float64()),
    (FEATURES, "tx_in_count", 1.5, pa.float64()),
    (FEATURES, "kcore", float("nan"), pa.float64()),
    (FEATURES, "kcore", float("inf"), pa.float64()),
    (FEATURES, "kcore", None, None),
    (FEATURES, "pagerank", 3.5e38, None),
    (FEATURES, "pagerank", None, None),
    (FEATURES, "amount_variance", None, None),
    (FEATURES, "is_whale", None, None),
    (FEATURES, "total_in_usd", None, None),
    (FEATURES, "hourly_activity", [0] * 23 + [65_536], None),
    (FEATURES, "hourly_activity", [0] * 23 + [-1], None),
    (FEATURES, "hourly_activity", None, None),
    (CLUSTERS, "addresses_involved", ["a", None], None),
    (CLUSTERS, "total_volume_usd", Decimal(10) ** 20, pa.decimal256(40, 18)),
    (CLUSTERS, "total_volume_usd", -(Decimal(10) ** 57), pa.decimal256(76, 18)),
    (CLUSTERS, "total_volume_usd", Decimal("0.1234567890123456789"), pa.decimal128(38, 19)),
    (CLUSTERS, "total_volume_usd", Decimal("1e-38"), pa.decimal256(76, 38)),
    (ALERTS, "description", None, None),
    (ALERTS, "window_days", 90, None),
    (ALERTS, "window_days", None, None),
    (ALERTS, "processing_date", date(2025, 8, 2), None),
    (ALERTS, "processing_date", None, None),
    (LABELS, "network", "bitcoin", None),
    (LABELS, "network", "Torus", None),
)

#: For a whole column: a type that its values are cast to, or the values.
_TYPES: tuple[tuple[str, str, Any], ...] = (
    (FEATURES, "kcore", pa.string()),
    (FEATURES, "kcore", pa.timestamp("ms")),
    (FEATURES, "is_whale", pa.int64()),
    (FEATURES, "total_in_usd", pa.float64()),
    (FEATURES, "first_activity_timestamp", pa.timestamp("us", "UTC")),
    (ALERTS, "description", pa.large_binary()),
    (ALERTS, "risk_indicators", pa.array(["a"] * 30)),
    (ALERTS, "risk_indicators", pa.array([[["a"]]] * 30)),
    (ALERTS, "severity", pa.array([{"level": "low"}] * 30)),
    (ALERTS, "severity", pa.nulls(30)),
    (ALERTS, "processing_date", pa.array([_LATER] * 30, pa.timestamp("us"))),
    (ALERTS, "processing_date", pa.array([_MIDNIGHT] * 29 + [datetime(9999, 12, 31)], pa.timestamp("ms"))),  # noqa: DTZ001
    (ALERTS, "processing_date", pa.array(["2025-08-01"] * 29 + ["2025-8-1"])),
)


def values() -> Iterator[Defect]:
    """Yield values that do not fit, types that do not, and keys that stand twice."""
    for table, column, value, type_ in _VALUES:
        shown = f"{value!r:.30}{f' as {type_}' if type_ else ''}"
        yield parquet(f"{column} is {shown}", table, partial(_set, table, column, value, type_))
    for table, column, given in _TYPES:
        type_ = given if isinstance(given, pa.DataType) else given.type
        yield parquet(f"{column} is a column of {type_}", table, partial(_retype, table, column, given))
    for table in (ALERTS, FEATURES, CLUSTERS, LABELS):
        yield parquet(f"a key of {table} twice", table, partial(SnapshotFiles.duplicate_row, table=table))


def _set(table: str, column: str, value: object, type_: pa.DataType | None, files: SnapshotFiles) -> None:
    files.set_value(table, column, _ROW, value, type_)


def _retype(table: str, column: str, given: Any, files: SnapshotFiles) -> None:
    if isinstance(given, pa.DataType):
        files.cast_column(table, column, given)
    else:
        files.set_column(table, column, given)
