"""Parquet files that look strange and hold nothing wrong: every value must arrive as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Context, Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.snapshots import SnapshotFiles
from tests.torture.defect import ALERTS, CLUSTERS, FEATURES, LABELS, Defect, legal

_MIDNIGHT = datetime(2025, 8, 1)  # noqa: DTZ001  # as Parquet files have it
_EXACT = Context(prec=38)
_NAN, _INFINITE = float("nan"), float("inf")
_MOST, _LEAST = Decimal("99999999999999999999.999999999999999999"), Decimal("0.000000000000000001")

#: Table, column, values for its first rows, and the file's type where it is not upstream's.
_VALUES: tuple[tuple[str, str, list[Any], pa.DataType | None], ...] = (
    (FEATURES, "amount_variance", [_NAN, _INFINITE, -_INFINITE, -0.0, 5e-324, 1.7976931348623157e308], None),
    (FEATURES, "pagerank", [_NAN, _INFINITE, -_INFINITE, 1e-45, 3.4028234e38, 0.1], None),
    (FEATURES, "peak_hour", [0, 255], None),
    (FEATURES, "degree_in", [0, 2**32 - 1], None),
    (FEATURES, "tx_in_count", [0, 2**64 - 1, 2**63], pa.uint64()),
    (FEATURES, "tx_out_count", [0.0, 2.0**63], pa.float64()),
    (FEATURES, "total_in_usd", [_MOST, _MOST.copy_negate(), _LEAST], pa.decimal128(38, 18)),
    (FEATURES, "net_flow_usd", [Decimal("1e20") - 1, Decimal(-5)], pa.decimal128(38, 0)),
    (FEATURES, "hourly_activity", [[], [65_535] * 24, [0] * 2_000], None),
    (ALERTS, "description", ["", " ", "\0", "a\0b", "\U0001f600" * 1_000, "\u202e", "x" * 1_000_000], None),
    (ALERTS, "risk_indicators", [[], [""], ["", "\U0001d11e", "a\0b"]], None),
    (ALERTS, "address", ["", "\U00010ffff", "e\u0301", "\u00e9", "\ufeff", "\u2028"], None),
)


def edges() -> Iterator[Defect]:
    """Yield values at the edges; each column is another, so that a file can have them all."""
    for table, column, values, type_ in _VALUES:
        yield legal(
            f"{column} at its edges{f' as {type_}' if type_ else ''}", partial(_set, table, column, values, type_)
        )


def strange() -> Iterator[Defect]:
    """Yield other types with the same values, other layouts, and empty tables."""
    midnights = pa.array([_MIDNIGHT] * 30, pa.timestamp("ms"))
    columns: dict[str, tuple[str, str, Any]] = {
        "the date as midnights": (ALERTS, "processing_date", midnights),
        "the date as text": (ALERTS, "processing_date", pa.array(["2025-08-01"] * 30)),
        "text with short offsets": (ALERTS, "severity", pa.string()),
        "small integers": (FEATURES, "peak_hour", pa.int8()),
    }
    for name, (table, column, given) in columns.items():
        yield legal(name, partial(_retype, table, column, given))
    yield legal("no rows of alerts and no columns", lambda files: files.without_rows(ALERTS))
    yield legal("no rows of clusters", lambda files: files.replace_table(CLUSTERS, files.table(CLUSTERS).slice(0, 0)))
    yield legal("columns the other way round", _reversed)
    yield legal("labels in the snapshot's folder", SnapshotFiles.move_labels_inside)
    layouts: dict[str, dict[str, Any]] = {
        "a row group a row, zstd": {"row_group_size": 1, "compression": "zstd"},
        "pages of version 2, gzip": {"data_page_version": "2.0", "compression": "gzip"},
        "no statistics, no compression, no dictionaries": {
            "write_statistics": False,
            "compression": "none",
            "use_dictionary": False,
        },
        "tiny pages, brotli": {"data_page_size": 64, "compression": "brotli"},
    }
    for name, options in layouts.items():
        yield legal(name, partial(_laid_out, options))


def _set(table: str, column: str, values: list[Any], type_: pa.DataType | None, files: SnapshotFiles) -> None:
    data = files.table(table)[column]
    rest = data.to_pylist()[len(values) :]
    if type_ is not None and pa.types.is_floating(type_):
        rest = [float(value) for value in rest]
    if type_ is not None and pa.types.is_decimal(type_):  # pyarrow takes values of one scale alone
        step = Decimal(1).scaleb(-type_.scale)
        values, rest = (
            [Decimal(number).quantize(step, context=_EXACT) for number in numbers]
            for numbers in (values, range(len(rest)))
        )
    files.set_column(table, column, pa.array([*values, *rest], type_ or data.type))


def _retype(table: str, column: str, given: Any, files: SnapshotFiles) -> None:
    if isinstance(given, pa.DataType):
        files.cast_column(table, column, given)
    else:
        files.set_column(table, column, given)


def _reversed(files: SnapshotFiles) -> None:
    for table in (ALERTS, FEATURES, CLUSTERS, LABELS):
        data = files.table(table)
        files.replace_table(table, data.select(data.column_names[::-1]))


def _laid_out(options: dict[str, Any], files: SnapshotFiles) -> None:
    write: Callable[..., None] = pq.write_table
    for table in (ALERTS, FEATURES, CLUSTERS, LABELS):
        write(files.table(table), files.path(table), **options)
        files.record_digest(table)
