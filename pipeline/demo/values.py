"""The values of the demo's files: random, and those of a good snapshot, so that no packaged audit finds anything.

Columns and types come from :mod:`pipeline.tables`; Arrow types are those of the files in ``tests/samples``. Values are
made from a hash of the seed, the snapshot, the column and the row's position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cached_property, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.snapshot import Snapshot
from pipeline.tables import Column, Table

_DAY_MS = 86_400_000
_TEXTS = ("", "unknown", "ETH", "BTC", "TOR", "USDT", "USDC", "混币器", "Ünïcode 'quoted' \\ tab\t")
_SEVERITIES = ("low", "medium", "high", "critical")
_CHOICES = {
    "severity": _SEVERITIES,
    "severity_max": _SEVERITIES,
    "risk_level": _SEVERITIES,
    "typology_type": ("STRUCTURING", "PEEL_CHAIN", "RAPID_FANOUT", "VELOCITY_ANOMALY"),
    "suspected_address_type": ("wallet", "merchant", "institutional", "unknown"),
    "cluster_type": ("same_entity",),
    "network_type": ("", "substrate", "evm", "utxo"),
    "trust_level": ("", "official", "verified", "community", "unverified", "blacklisted"),
    "label": ("binance", "kraken", "ofac_sdn", "tornado_cash"),
}
_INTEGERS_BELOW = {"peak_hour": 24, "peak_day": 7, "peak_activity_hour": 24, "peak_activity_day": 7}
_HOURS, _WEEKDAYS = 24, 7
_TRANSFERS_BELOW = 50  #: of an address, in one of the day's hours

#: The part of the addresses of which there is nothing to measure: their amounts and scores are 0. So 1,000,000
#: features rows have 395 MB, which would else have 549 MB; upstream's have about 360 MB.
_QUIET = 0.42
MEASURED = frozenset({"Float32", "Float64", "Decimal(38, 18)"})  #: types of amounts and scores


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a table, and the random streams that their values are made from."""

    snapshot: Snapshot
    table: Table
    seed: int
    start: int
    rows: int
    rows_of_file: int  #: in all parts

    def stream(self, name: str, *, entity: bool = False) -> Any:
        """Return a hash to take any number of bytes from.

        An entity's stream is the same in all tables, on all days and for all seeds of a network, so that row 7 of
        every file is about the same address. The shared file is the same on all days.
        """
        day = "" if entity or self.table.shared else str(self.snapshot)
        scope = "" if entity else self.table.name
        seed = 0 if entity else self.seed
        text = f"{seed} {self.snapshot.network} {day} {scope} {name} {self.start}"
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
        """Tell of each row whether there is nothing to measure; of the first there is something."""
        quiet = pc.less(self.uniform("quiet"), _QUIET)
        return pa.concat_arrays([pa.array([False]), quiet.slice(1)])

    def below(self, name: str, bound: int, rows: int | None = None) -> pa.Array:
        """Return integers from 0 up to, not including, the bound."""
        return pc.floor(pc.multiply(self.uniform(name, rows), float(bound))).cast(pa.int64())

    def numbers(self) -> pa.Array:
        """Return the rows' positions in the file, as text."""
        return pa.array(range(self.start, self.start + self.rows), pa.int64()).cast(pa.large_string())


def _integers(part: Part, name: str) -> pa.Array:
    if not name.endswith("_timestamp"):
        return part.below(name, _INTEGERS_BELOW.get(name, 200))
    # Milliseconds since 1970: beginnings in the first half of the window, ends in the second.
    day = date(2025, 1, 1) if part.table.shared else part.snapshot.processing_date
    end = int(datetime.combine(day, time(), UTC).timestamp()) * 1000 + _DAY_MS
    half = part.snapshot.window_days * _DAY_MS // 2
    begins = name.startswith(("first", "earliest", "created"))
    return pc.add(part.below(name, half), end - (2 * half if begins else half))


def _amounts(part: Part, name: str) -> pa.Array:
    # From one to a hundred billion, every magnitude as often.
    return pc.power(10.0, pc.multiply(part.uniform(name), 11.0)).cast(arrow_type("Decimal(38, 18)"))


def _next(values: pa.Array) -> pa.Array:
    """Return of each row what the next one has, of the last row what the first has: together the same."""
    return pa.concat_arrays([values.slice(1), values.slice(0, 1)])


def _sent_and_received(part: Part) -> tuple[pa.Array, pa.Array]:
    """Return what went out of each address and what came in, in USD: over all that are not quiet the same sum."""
    received, active = _amounts(part, "total_in_usd"), pc.invert(part.quiet)
    return pc.replace_with_mask(received, active, _next(received.filter(active))), received


def _flow(part: Part, operation: Callable[[pa.Array, pa.Array], pa.Array]) -> pa.Array:
    sent, received = _sent_and_received(part)
    return operation(received, sent).cast(sent.type)


def _from_one(part: Part, name: str, most: int) -> pa.Array:
    return pc.add(part.below(name, most), 1)


def _transfers(part: Part) -> tuple[pa.Array, pa.Array]:
    """Return the numbers of outgoing and of incoming transfers: at least those of the histograms, and the same sum."""
    incoming = pc.add(part.below("tx_in_count", 200), _HOURS * _TRANSFERS_BELOW // 2)
    return _next(incoming), incoming


def _pagerank(part: Part) -> pa.Array:
    ranks = pc.if_else(part.quiet, 0.0, part.uniform("pagerank"))
    share = part.rows / part.rows_of_file / pc.sum(ranks).as_py()
    return pc.multiply(ranks, share).cast(pa.float32()).cast(pa.float64())


def _strings(part: Part, name: str) -> pa.Array:
    choices = pa.array(_CHOICES.get(name, _TEXTS), pa.large_string())
    return choices.take(part.below(name, len(choices)))


def _floats(part: Part, name: str) -> pa.Array:
    return part.uniform(name).cast(pa.float32()).cast(pa.float64())  # ClickHouse's Float32, widened by pandas


def _lists(items: pa.Array, lengths: pa.Array, clickhouse_type: str) -> pa.Array:
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)]).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, items, type=arrow_type(clickhouse_type))


def _string_lists(part: Part, name: str) -> pa.Array:
    lengths = part.below(f"{name} length", 4)
    items = part.hex(name, 16, rows=pc.sum(lengths).as_py() or 0).cast(pa.string())
    return _lists(items, lengths, "Array(String)")


def _histograms(part: Part, name: str) -> pa.Array:
    """Return transfers by hour, or by weekday: of the same transfers, those of an hour on one weekday."""
    by_hour = part.below("hourly_activity", _TRANSFERS_BELOW, part.rows * _HOURS)
    if name == "hourly_activity":
        return _lists(by_hour, pa.repeat(_HOURS, part.rows), "Array(UInt16)")
    first = pa.array(range(0, part.rows * _HOURS, _HOURS), pa.int64())
    hours = [by_hour.take(pc.add(first, hour)) for hour in range(_HOURS)]
    weekdays = [reduce(pc.add, hours[weekday::_WEEKDAYS]) for weekday in range(_WEEKDAYS)]
    return _interleaved(weekdays, "Array(UInt16)")


def _interleaved(columns: list[pa.Array], clickhouse_type: str) -> pa.Array:
    """Return lists of what the columns have in each row."""
    rows, width = len(columns[0]), len(columns)
    place = pa.array(range(rows * width), pa.int64())
    row = pc.divide(place, width)
    column = pc.subtract(place, pc.multiply(row, width))
    items = pa.concat_arrays(columns).take(pc.add(pc.multiply(column, rows), row))
    return _lists(items, pa.repeat(width, rows), clickhouse_type)


def _join(*pieces: str | pa.Array) -> pa.Array:
    large = [pa.scalar(piece, pa.large_string()) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*large, pa.scalar("", pa.large_string()))


def _address(part: Part) -> pa.Array:
    return _join("0x", part.hex("address", 40, entity=True))


def _alert_id(part: Part) -> pa.Array:
    return _join("alert_", part.numbers(), "_", part.hex("alert", 16, entity=True))


def _related_alerts(part: Part) -> pa.Array:
    alerts = _alert_id(part).cast(pa.string())
    return _interleaved([alerts, _next(alerts)], "Array(String)")


def _evidence(part: Part) -> pa.Array:
    return _join('{"score":', part.uniform("score").cast(pa.large_string()), ',"hops":[1,2,3]}')


#: By ClickHouse's type: the Arrow type in which upstream writes it, and what makes a column's values.
_BY_TYPE: dict[str, tuple[pa.DataType, Callable[[Part, str], pa.Array]]] = {
    "String": (pa.large_string(), _strings),
    "UInt8": (pa.int64(), _integers),
    "UInt16": (pa.int64(), _integers),
    "UInt32": (pa.int64(), _integers),
    "UInt64": (pa.int64(), _integers),
    "Float32": (pa.float64(), _floats),
    "Float64": (pa.float64(), Part.uniform),
    "Decimal(38, 18)": (pa.decimal128(32, 18), _amounts),  # precision: inferred per file; 32 in the samples
    "Bool": (pa.bool_(), lambda part, name: pc.less(part.uniform(name), 0.1)),
    "Date": (pa.date32(), lambda part, _: pa.repeat(part.snapshot.processing_date, part.rows)),
    "Array(String)": (pa.list_(pa.field("element", pa.string())), _string_lists),
    "Array(UInt16)": (pa.list_(pa.field("element", pa.int64())), _histograms),
}
#: Columns whose values their type does not tell.
_BY_NAME: dict[str, Callable[[Part], pa.Array]] = {
    "window_days": lambda part: pa.repeat(part.snapshot.window_days, part.rows),
    "network": lambda part: pa.repeat(pa.scalar(part.snapshot.network, pa.large_string()), part.rows),
    "address": _address,
    "primary_address": _address,
    "alert_id": _alert_id,
    "primary_alert_id": _alert_id,
    "related_alert_ids": _related_alerts,
    "addresses_involved": lambda part: _interleaved([_address(part).cast(pa.string())], "Array(String)"),
    "total_alerts": lambda part: pa.repeat(2, part.rows),
    "total_out_usd": lambda part: _sent_and_received(part)[0],
    "net_flow_usd": lambda part: _flow(part, pc.subtract),
    "total_volume_usd": lambda part: _flow(part, pc.add),
    "tx_out_count": lambda part: _transfers(part)[0],
    "tx_in_count": lambda part: _transfers(part)[1],
    "tx_total_count": lambda part: pc.add(*_transfers(part)),
    "degree_total": lambda part: _from_one(part, "counterparties", 200),
    "unique_counterparties": lambda part: _from_one(part, "counterparties", 200),
    "kcore": lambda part: _from_one(part, "kcore", 200),
    "activity_days": lambda part: part.below("activity_days", part.snapshot.window_days),
    "activity_span_days": lambda part: _from_one(part, "activity_span_days", part.snapshot.window_days),
    "reciprocity_ratio": lambda part: pc.multiply(_floats(part, "reciprocity_ratio"), 0.5),
    "pagerank": _pagerank,
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


def values_of(part: Part, column: Column) -> pa.Array:
    """Return a column of consecutive rows."""
    by_name = _BY_NAME.get(column.name)
    values = by_name(part) if by_name else _BY_TYPE[column.type][1](part, column.name)
    if part.table.stem == "features" and column.type in MEASURED:
        return pc.if_else(part.quiet, pa.scalar(0, values.type), values)
    return values
