"""A valid snapshot with one thing wrong: a knob for every defect.

A knob that changes data writes the manifest's digest and count to match, so that the data is the only thing
wrong. ``corrupt``, ``truncate`` and ``remove`` leave the manifest alone: there the mismatch is the defect.
Tables go by the names that readers know, like raw_features.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.demo import bucket
from pipeline.snapshot import Snapshot

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONTRACT = Path(__file__).parents[1] / "columns.csv"
SMALL = bucket.Rows(features=50, alerts=30, clusters=20, address_labels=40)
GENERATED_AT = datetime(2025, 8, 3, 0, 30, tzinfo=UTC)
LABELS = "raw_address_labels"


@dataclass(frozen=True)
class Bucket:
    """A directory in the bucket's layout."""

    root: Path

    def snapshot(
        self,
        network: str = "torus",
        day: date = date(2025, 8, 1),
        window_days: int = 195,
        *,
        rows: bucket.Rows = SMALL,
        seed: int = 0,
    ) -> SnapshotFiles:
        """Write a valid snapshot.

        With the same seed it leaves the labels of the network's other days as they are, with another it
        supersedes them.
        """
        snapshot = Snapshot(network, day, window_days)
        bucket.write_snapshot(self.root, snapshot, rows=rows, seed=seed, generated_at=GENERATED_AT)
        return SnapshotFiles(self.root, snapshot)


def _current_names() -> dict[str, str]:
    return {table: f"{table.removeprefix('raw_')}.parquet" for table in contract()}


@dataclass
class SnapshotFiles:
    """The files of one snapshot in a bucket, and the knobs."""

    root: Path
    snapshot: Snapshot
    names: dict[str, str] = field(default_factory=_current_names)  #: by table: what the manifest calls the file
    labels_inside: bool = False

    # Where things are

    @property
    def manifest_path(self) -> Path:
        """META.json."""
        return self.root / self.snapshot.manifest_key

    def path(self, table: str) -> Path:
        """Return where the table's file lies (or lay, when it was removed)."""
        if table == LABELS and not self.labels_inside:
            return self.root / self.snapshot.shared_labels_key
        return self.root / self.snapshot.folder / self.names[table]

    # The manifest

    def manifest(self) -> dict[str, Any]:
        """Return META.json as it is now."""
        document: dict[str, Any] = json.loads(self.manifest_path.read_bytes())
        return document

    def write_manifest(self, document: object) -> None:
        """Replace META.json; what JSON cannot say is written with ``manifest_path.write_text``."""
        self.manifest_path.write_text(json.dumps(document, indent=2), encoding="utf-8")

    def edit_manifest(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Change META.json in place, for example ``lambda meta: meta.pop("network")``."""
        document = self.manifest()
        edit(document)
        self.write_manifest(document)

    def record_digest(self, table: str) -> None:
        """Write the digest of the file as it is now into the manifest, in the manifest's dialect."""
        data, name = self.path(table).read_bytes(), self.names[table]
        sha256 = hashlib.sha256(data).hexdigest()
        document = self.manifest()
        match document:
            case {"sha256": digests}:
                digests[name] = sha256
            case {"files": list(entries)}:
                entry = next(entry for entry in entries if entry["filename"] == name)
                entry["checksum"] = entry["checksum"][:-64] + sha256  # keeps the prefix, if there is one
            case {"files": by_name}:
                by_name[name] = {"md5": _md5(data)}
        self.write_manifest(document)

    def record_count(self, table: str, rows: int) -> None:
        """Write a number of rows into the manifest, if it carries counts."""
        counts = {table.removeprefix("raw_"): rows}
        self.edit_manifest(lambda meta: meta["counts"].update(counts) if "counts" in meta else None)

    # The manifest's dialects and the files' names

    def as_list_dialect(self, *, prefix: bool = False, raw_names: bool = False, facts: bool = False) -> None:
        """Write the list dialect: with ``sha256:`` before digests, raw names, the facts beside the list."""
        if raw_names:
            self.use_raw_names()
        document, before = self.manifest(), "sha256:" if prefix else ""
        digests = document.pop("sha256").items()
        files = [{"filename": name, "checksum": before + digest} for name, digest in digests]
        self.write_manifest({**(document if facts else {}), "files": files})

    def as_legacy_dialect(self) -> None:
        """Write the legacy dialect, whose digests are MD5."""
        digests = {name: {"md5": _md5(self.path(table).read_bytes())} for table, name in self.names.items()}
        self.write_manifest({"files": digests})

    def use_raw_names(self) -> None:
        """Call every file raw_{stem}.parquet, in the folder and in the manifest; current dialect only."""
        before = {table: self.path(table) for table in self.names}
        self.names = {table: f"{table}.parquet" for table in self.names}
        for table, path in before.items():
            path.rename(self.path(table))
        raw = {f"raw_{name}": digest for name, digest in self.manifest()["sha256"].items()}
        self.edit_manifest(lambda meta: meta.update(sha256=raw))

    def move_labels_inside(self) -> None:
        """Put the labels into the snapshot's folder."""
        outside, self.labels_inside = self.path(LABELS), True
        outside.rename(self.path(LABELS))

    # The data, with the manifest to match

    def table(self, name: str) -> pa.Table:
        """Return what is in the table's file."""
        return pq.read_table(self.path(name))

    def replace_table(self, name: str, table: pa.Table) -> None:
        """Write the table's file again."""
        pq.write_table(table, self.path(name), compression="snappy")
        self.record_digest(name)
        self.record_count(name, table.num_rows)

    def set_column(self, table: str, column: str, values: pa.Array | pa.ChunkedArray) -> None:
        """Replace a column, type and all."""
        data = self.table(table)
        position = data.schema.get_field_index(column)
        self.replace_table(table, data.set_column(position, column, values))

    def set_value(
        self,
        table: str,
        column: str,
        row: int,
        value: object,
        type: pa.DataType | None = None,  # noqa: A002
    ) -> None:
        """Replace one value, giving the column another type if the value needs one."""
        data = self.table(table)[column]
        values = data.to_pylist()
        values[row] = value
        self.set_column(table, column, pa.array(values, type or data.type))

    def cast_column(self, table: str, column: str, type: pa.DataType) -> None:  # noqa: A002
        """Give a column another type, values as they are."""
        self.set_column(table, column, self.table(table)[column].cast(type))

    def add_column(self, table: str, column: str, values: Sequence[object] | pa.Array) -> None:
        """Append a column."""
        self.replace_table(table, self.table(table).append_column(column, pa.array(values)))

    def drop_column(self, table: str, column: str) -> None:
        """Leave a column out."""
        self.replace_table(table, self.table(table).drop_columns([column]))

    def rename_column(self, table: str, old: str, new: str) -> None:
        """Call a column something else."""
        self.replace_table(table, self.table(table).rename_columns({old: new}))

    def append_rows(self, table: str, rows: pa.Table) -> None:
        """Append rows of the same columns."""
        self.replace_table(table, pa.concat_tables([self.table(table), rows]))

    def duplicate_row(self, table: str, row: int = 0) -> None:
        """Append a copy of a row."""
        self.append_rows(table, self.table(table).slice(row, 1))

    def delete_row(self, table: str, row: int = 0) -> None:
        """Leave a row out."""
        data = self.table(table)
        self.replace_table(table, pa.concat_tables([data.slice(0, row), data.slice(row + 1)]))

    def without_rows(self, table: str) -> None:
        """Write the file of an export without rows: no columns either."""
        self.replace_table(table, pa.table({}))

    # The bytes

    def overwrite(self, table: str, data: bytes, *, digest: bool) -> None:
        """Write any bytes; ``digest`` says whether the manifest knows them."""
        self.path(table).write_bytes(data)
        if digest:
            self.record_digest(table)

    def corrupt(self, table: str, offset: int) -> None:
        """Flip the bits of one byte, counted from the end when negative; the manifest does not know."""
        data = bytearray(self.path(table).read_bytes())
        data[offset] ^= 0xFF
        self.overwrite(table, bytes(data), digest=False)

    def truncate(self, table: str, size: int) -> None:
        """Keep the first ``size`` bytes; the manifest does not know."""
        self.overwrite(table, self.path(table).read_bytes()[:size], digest=False)

    def remove(self, table: str) -> None:
        """Remove the file; the manifest does not know."""
        self.path(table).unlink()

    # What to expect

    def expected_rows(self, table: str) -> list[tuple[object, ...]]:
        """Return what readers must see of this table; see the function of the same name."""
        return expected_rows(self.path(table), table, self.snapshot)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def upload(
    bucket_root: Path, client: S3Client, bucket_name: str, prefix: str = "", *, only: Snapshot | None = None
) -> None:
    """Put a bucket's directory into a bucket of S3, manifests last; a ``prefix`` ends with a slash.

    With ``only`` what belongs to one snapshot, as an export of it would.
    """
    files = [path for path in bucket_root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    if only is not None:
        folder, labels = bucket_root / only.folder, bucket_root / only.shared_labels_key
        files = [path for path in files if path == labels or path.is_relative_to(folder)]
    for path in sorted(files, key=lambda path: (path.name == "META.json", path)):
        key = prefix + path.relative_to(bucket_root).as_posix()
        client.put_object(Bucket=bucket_name, Key=key, Body=path.read_bytes())


def contract() -> dict[str, dict[str, str]]:
    """Return the columns that readers know with their ClickHouse types, in order, by table."""
    tables: dict[str, dict[str, str]] = {}
    with CONTRACT.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            tables.setdefault(line["table"], {})[line["column"]] = line["clickhouse_type"]
    return tables


def expected_rows(path: Path, table: str, snapshot: Snapshot) -> list[tuple[object, ...]]:
    """Return what readers must see of a file: the table's columns in order without created_at, row by row.

    Reads with pyarrow and the contract alone, so that it can contradict the pipeline. A file without rows
    gives none; date, window and network come from the snapshot where the file has no column for them.
    """
    data = pq.read_table(path)
    constants = {name: getattr(snapshot, name) for name in ("processing_date", "window_days", "network")}
    columns = []
    for name, type_ in contract()[table].items():
        if name == "created_at" or not data.num_rows:
            continue
        values = data[name].to_pylist() if name in data.column_names else [constants[name]] * data.num_rows
        columns.append([_as_readers_see(value, type_) for value in values])
    return list(zip(*columns, strict=True))


def _as_readers_see(value: Any, clickhouse_type: str) -> object:
    """Return a value as ClickHouse stores it; only rounding to single precision changes it.

    NULL is NaN, as pandas writes it: in any but upstream's two columns of that kind it is refused.
    """
    if value is None and clickhouse_type == "Float64":
        return math.nan
    if clickhouse_type == "Float32":
        return struct.unpack("f", struct.pack("f", value))[0]
    if clickhouse_type == "Decimal(38, 18)":
        exact = Context(prec=76, traps=[Inexact])
        return Decimal(value).quantize(Decimal("1e-18"), context=exact)
    if clickhouse_type == "Date":
        return date.fromisoformat(str(value)[:10])  # dates, timestamps at midnight, or text
    return value
