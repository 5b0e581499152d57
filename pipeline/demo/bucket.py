"""Writes a small bucket in upstream's format: for the quickstart, for tests, with many rows for a benchmark.

    python -m pipeline.demo DIRECTORY --networks torus,bitcoin --dates 2025-08-01,2025-08-02 --features 200

Columns and types come from :mod:`pipeline.tables`; Arrow types, compression and META.json are those of the
files in ``tests/samples``. Values are made from a hash of the seed, the snapshot, the column and the row's
position: the same arguments give the same bytes (from the same pyarrow, whose version is in the files).

A file is one row group, as upstream's are, up to ``row_group_rows`` rows. pyarrow cannot write a row group in
pieces, so a group's rows are in memory at once: 1.5 GB for 1,000,000 features rows, 0.4 GB for 100,000. The
values depend on the size of the groups, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dates import day_end
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES, Column, Table

WINDOW_DAYS = 195
ROW_GROUP_ROWS = 1_048_576  # pyarrow's default, hence upstream's; above the exporter's limit of 1,000,000 rows
MARKER = ".written-by-pipeline-demo"  # in the bucket's root: what lies here may be overwritten

_DAY_MS = 86_400_000
_TEXTS = ("", "unknown", "ETH", "BTC", "TOR", "USDT", "USDC", "混币器", "Ünïcode 'quoted' \\ tab\t")
_SEVERITIES = ("low", "medium", "high", "critical")
_CHOICES = {
    "severity": _SEVERITIES,
    "severity_max": _SEVERITIES,
    "risk_level": _SEVERITIES,
    "typology_type": ("structuring", "layering", "mixer_interaction", "sanctioned_exposure"),
    "cluster_type": ("same_entity", "pattern", "network"),
    "label": ("binance", "kraken", "ofac_sdn", "tornado_cash"),
}
_INTEGERS_BELOW = {"peak_hour": 24, "peak_day": 7, "peak_activity_hour": 24, "peak_activity_day": 7}
_LIST_LENGTHS = {"hourly_activity": 24, "daily_activity": 7}

#: The part of the addresses of which there is nothing to measure: their amounts and scores are 0. So 1,000,000
#: features rows have 395 MB, which would else have 549 MB; upstream's have about 360 MB.
_QUIET = 0.42
MEASURED = frozenset({"Float32", "Float64", "Decimal(38, 18)"})  #: types of amounts and scores


@dataclass(frozen=True)
class Rows:
    """How many rows each file gets, by the file's stem; 0 gives a file without columns."""

    features: int = 200
    alerts: int = 40
    clusters: int = 10
    address_labels: int = 100

    @classmethod
    def in_proportion_to(cls, features: int) -> Rows:
        """Return the counts of a snapshot with so many features rows."""
        return cls(features, features // 5, features // 20, features // 2)


@dataclass(frozen=True)
class _Part:
    """Consecutive rows of a table, and the random streams that their values are made from."""

    snapshot: Snapshot
    table: Table
    seed: int
    start: int
    rows: int

    def stream(self, name: str, *, entity: bool = False) -> Any:
        """Return a hash to take any number of bytes from.

        An entity's stream is the same in all tables and on all days of a network, so that row 7 of every file
        is about the same address. The shared file is the same on all days.
        """
        day = "" if entity or self.table.shared else str(self.snapshot)
        scope = "" if entity else self.table.name
        text = f"{self.seed} {self.snapshot.network} {day} {scope} {name} {self.start}"
        return hashlib.shake_128(text.encode())

    def hex(self, name: str, digits: int, *, entity: bool = False, rows: int | None = None) -> pa.Array:
        """Return strings of lower-case hexadecimal digits."""
        rows = self.rows if rows is None else rows
        data = self.stream(name, entity=entity).hexdigest(rows * digits // 2).encode()
        offsets = pa.array(range(0, rows * digits + 1, digits), pa.int64())
        return pa.LargeStringArray.from_buffers(rows, offsets.buffers()[1], pa.py_buffer(data))

    def uniform(self, name: str, rows: int | None = None) -> pa.Array:
        """Return doubles from 0 up to, not including, 1: the upper 53 of 64 random bits."""
        rows = self.rows if rows is None else rows
        data = pa.py_buffer(self.stream(name).digest(8 * rows))
        bits = pa.Array.from_buffers(pa.uint64(), rows, [None, data])
        return pc.multiply(pc.shift_right(bits, pa.scalar(11, pa.uint64())).cast(pa.float64()), 2.0**-53)

    @cached_property
    def quiet(self) -> pa.Array:
        """Tell of each row whether there is nothing to measure."""
        return pc.less(self.uniform("quiet"), _QUIET)

    def below(self, name: str, bound: int, rows: int | None = None) -> pa.Array:
        """Return integers from 0 up to, not including, the bound."""
        return pc.floor(pc.multiply(self.uniform(name, rows), float(bound))).cast(pa.int64())

    def numbers(self) -> pa.Array:
        """Return the rows' positions in the file, as text."""
        return pa.array(range(self.start, self.start + self.rows), pa.int64()).cast(pa.large_string())


def _integers(part: _Part, name: str) -> pa.Array:
    if not name.endswith("_timestamp"):
        return part.below(name, _INTEGERS_BELOW.get(name, 200))
    # Milliseconds since 1970: beginnings in the first half of the window, ends in the second.
    day = date(2025, 1, 1) if part.table.shared else part.snapshot.processing_date
    end = int(datetime.combine(day, time(), UTC).timestamp()) * 1000 + _DAY_MS
    half = part.snapshot.window_days * _DAY_MS // 2
    begins = name.startswith(("first", "earliest", "created"))
    return pc.add(part.below(name, half), end - (2 * half if begins else half))


def _amounts(part: _Part, name: str) -> pa.Array:
    if name == "net_flow_usd":  # the one amount that can be negative
        dollars = pc.multiply(pc.subtract(part.uniform(name), 0.5), 1e9)
    else:  # from one to a hundred billion, every magnitude as often
        dollars = pc.power(10.0, pc.multiply(part.uniform(name), 11.0))
    return dollars.cast(arrow_type("Decimal(38, 18)"))


def _strings(part: _Part, name: str) -> pa.Array:
    choices = pa.array(_CHOICES.get(name, _TEXTS), pa.large_string())
    return choices.take(part.below(name, len(choices)))


def _floats(part: _Part, name: str) -> pa.Array:
    return part.uniform(name).cast(pa.float32()).cast(pa.float64())  # ClickHouse's Float32, widened by pandas


def _offsets(part: _Part, name: str) -> pa.Array:
    fixed = _LIST_LENGTHS.get(name)
    lengths = pa.repeat(fixed, part.rows) if fixed else part.below(f"{name} length", 4)
    return pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)]).cast(pa.int32())


def _string_lists(part: _Part, name: str) -> pa.Array:
    offsets = _offsets(part, name)
    items = part.hex(name, 16, rows=offsets[-1].as_py()).cast(pa.string())
    return pa.ListArray.from_arrays(offsets, items, type=arrow_type("Array(String)"))


def _integer_lists(part: _Part, name: str) -> pa.Array:
    offsets = _offsets(part, name)
    items = part.below(name, 50, offsets[-1].as_py())
    return pa.ListArray.from_arrays(offsets, items, type=arrow_type("Array(UInt16)"))


def _join(*pieces: str | pa.Array) -> pa.Array:
    large = [pa.scalar(piece, pa.large_string()) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*large, pa.scalar("", pa.large_string()))


def _address(part: _Part) -> pa.Array:
    return _join("0x", part.hex("address", 40, entity=True))


def _alert_id(part: _Part) -> pa.Array:
    return _join("alert_", part.numbers(), "_", part.hex("alert", 16, entity=True))


def _evidence(part: _Part) -> pa.Array:
    return _join('{"score":', part.uniform("score").cast(pa.large_string()), ',"hops":[1,2,3]}')


#: By ClickHouse's type: the Arrow type in which upstream writes it, and what makes a column's values.
_BY_TYPE: dict[str, tuple[pa.DataType, Callable[[_Part, str], pa.Array]]] = {
    "String": (pa.large_string(), _strings),
    "UInt8": (pa.int64(), _integers),
    "UInt16": (pa.int64(), _integers),
    "UInt32": (pa.int64(), _integers),
    "UInt64": (pa.int64(), _integers),
    "Float32": (pa.float64(), _floats),
    "Float64": (pa.float64(), _Part.uniform),
    "Decimal(38, 18)": (pa.decimal128(32, 18), _amounts),  # precision: inferred per file; 32 in the samples
    "Bool": (pa.bool_(), lambda part, name: pc.less(part.uniform(name), 0.1)),
    "Date": (pa.date32(), lambda part, _: pa.repeat(part.snapshot.processing_date, part.rows)),
    "Array(String)": (pa.list_(pa.field("element", pa.string())), _string_lists),
    "Array(UInt16)": (pa.list_(pa.field("element", pa.int64())), _integer_lists),
}
#: Columns whose values their type does not tell.
_BY_NAME: dict[str, Callable[[_Part], pa.Array]] = {
    "window_days": lambda part: pa.repeat(part.snapshot.window_days, part.rows),
    "network": lambda part: pa.repeat(pa.scalar(part.snapshot.network, pa.large_string()), part.rows),
    "address": _address,
    "primary_address": _address,
    "alert_id": _alert_id,
    "primary_alert_id": _alert_id,
    "cluster_id": lambda part: _join("cluster_", part.numbers()),
    "description": lambda part: _join("Suspicious flow for #", part.numbers(), ", 'see evidence'"),
    "evidence_json": _evidence,
}


def arrow_type(clickhouse_type: str) -> pa.DataType:
    """Return the Arrow type in which upstream writes a column of a ClickHouse type; KeyError if unknown."""
    return _BY_TYPE[clickhouse_type][0]


def file_columns(table: Table) -> tuple[Column, ...]:
    """Return the columns that upstream writes for a table, in order.

    The shared file lies outside the snapshot's folder: it has no columns for date and window, and two for its
    own history, in milliseconds.
    """
    if not table.shared:
        return table.file_columns
    stored = tuple(c for c in table.file_columns if c.name not in {"processing_date", "window_days"})
    return stored + tuple(Column(n, "UInt64") for n in table.dropped_columns if n.endswith("_timestamp"))


def _values(part: _Part, column: Column) -> pa.Array:
    by_name = _BY_NAME.get(column.name)
    values = by_name(part) if by_name else _BY_TYPE[column.type][1](part, column.name)
    if part.table.stem == "features" and column.type in MEASURED:
        return pc.if_else(part.quiet, pa.scalar(0, values.type), values)
    return values


def _write_table(path: Path, parts: list[_Part]) -> str:
    """Write one Parquet file, a row group for each part, and return its SHA-256."""
    columns = file_columns(parts[0].table) if parts else ()
    schema = pa.schema([(column.name, arrow_type(column.type)) for column in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        for part in parts:
            arrays = [_values(part, column) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=part.rows)
        if not parts:
            writer.write_table(schema.empty_table())  # one empty row group, as pandas writes it
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(path: Path, snapshot: Snapshot, generated_at: datetime, files: dict[str, Any]) -> None:
    document = {
        "schema_version": "1.0.0",
        "batch_id": f"{snapshot.network}-{snapshot.processing_date}-{snapshot.window_days}d",
        **snapshot.as_dict(),
        "generated_at": generated_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        **files,
    }
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(json.dumps(document, indent=2), encoding="utf-8")
    unfinished.replace(path)


def write_snapshot(
    root: Path,
    snapshot: Snapshot,
    *,
    rows: Rows = Rows(),
    seed: int = 0,
    generated_at: datetime,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> None:
    """Write a snapshot's files into the bucket at ``root``, and its manifest when they are complete.

    The labels of the network are overwritten, as every export does: by the same bytes when seed, count and
    window are the same, else older snapshots' labels are superseded. ``generated_at`` knows its time zone.
    """
    counts, digests = {}, {}
    for table in TABLES:
        count = getattr(rows, table.stem)
        key = snapshot.shared_labels_key if table.shared else f"{snapshot.folder}/{table.file_names[0]}"
        starts = range(0, count, row_group_rows)
        parts = [_Part(snapshot, table, seed, at, min(row_group_rows, count - at)) for at in starts]
        digests[table.file_names[0]] = _write_table(root / key, parts)
        counts[table.stem] = count
    files = {"counts": counts, "sha256": digests}
    _write_manifest(root / snapshot.manifest_key, snapshot, generated_at, files)


def write_bucket(
    root: Path,
    networks: Iterable[str],
    dates: Iterable[date],
    window_days: int = WINDOW_DAYS,
    *,
    rows: Rows = Rows(),
    seed: int = 0,
    row_group_rows: int = ROW_GROUP_ROWS,
    written: Callable[[Snapshot], object] = lambda _: None,
) -> None:
    """Write a snapshot for every network and date, each generated at 00:30 UTC of the day after.

    Calls ``written`` after each. Raises FileExistsError when ``root`` holds something that is not a demo
    bucket, and ValueError for an impossible network or window.
    """
    snapshots = [Snapshot(network, day, window_days) for day, network in product(dates, networks)]
    if root.exists() and not (root / MARKER).exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} is not empty and not a demo bucket: refusing to write into it")
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).touch()
    for snapshot in snapshots:
        night = day_end(snapshot.processing_date) + timedelta(minutes=30)
        write_snapshot(root, snapshot, rows=rows, seed=seed, generated_at=night, row_group_rows=row_group_rows)
        written(snapshot)


_COUNT = click.IntRange(min=0)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--networks", default="torus", show_default=True, help="Separated by commas.")
@click.option("--dates", default="2025-08-01,2025-08-02", show_default=True, help="Separated by commas.")
@click.option("--window-days", default=WINDOW_DAYS, show_default=True)
@click.option("--features", type=_COUNT, default=200, show_default=True, help="Rows; 0 is an empty file.")
@click.option("--alerts", type=_COUNT, help="Rows. [default: features / 5]")
@click.option("--clusters", type=_COUNT, help="Rows. [default: features / 20]")
@click.option("--address-labels", type=_COUNT, help="Rows. [default: features / 2]")
@click.option("--seed", default=0, show_default=True, help="Another seed, other values.")
@click.option("--row-group-rows", type=click.IntRange(min=1), default=ROW_GROUP_ROWS, show_default=True)
def main(directory: Path, networks: str, dates: str, features: int, **options: Any) -> None:
    """Write a demo bucket in upstream's format into DIRECTORY."""
    counts = {table.stem: options.pop(table.stem, None) for table in TABLES}
    given = {stem: count for stem, count in counts.items() if count is not None}
    rows = replace(Rows.in_proportion_to(features), **given)
    try:
        days = [date.fromisoformat(text) for text in dates.split(",")]
        write_bucket(directory, networks.split(","), days, rows=rows, written=click.echo, **options)
    except (FileExistsError, ValueError) as error:
        raise click.UsageError(str(error)) from error


if __name__ == "__main__":
    main()
