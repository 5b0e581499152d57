"""Writes a small bucket in upstream's format: for the quickstart, for tests, with many rows for a benchmark.

    python -m pipeline.demo DIRECTORY --networks torus,bitcoin --dates 2025-08-01,2025-08-02 --features 200

Columns, types and values come from :mod:`pipeline.demo.values`; compression and META.json are those of the files in
``tests/samples``. The same arguments give the same bytes (from the same pyarrow, whose version is in the files).

A file is one row group, as upstream's are, up to ``row_group_rows`` rows. pyarrow cannot write a row group in
pieces, so a group's rows are in memory at once: 1.5 GB for 1,000,000 features rows, 0.4 GB for 100,000. The
values depend on the size of the groups, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dates import day_end
from pipeline.demo.values import Part, arrow_type, file_columns, values_of
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES

WINDOW_DAYS = 195
ROW_GROUP_ROWS = 1_048_576  # pyarrow's default, hence upstream's; above the exporter's limit of 1,000,000 rows
MARKER = ".written-by-pipeline-demo"  # in the bucket's root: what lies here may be overwritten


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


def _write_table(path: Path, parts: list[Part]) -> str:
    """Write one Parquet file, a row group for each part, and return its SHA-256."""
    columns = file_columns(parts[0].table) if parts else ()
    schema = pa.schema([(column.name, arrow_type(column.type)) for column in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        for part in parts:
            arrays = [values_of(part, column) for column in columns]
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
        parts = [Part(snapshot, table, seed, at, min(row_group_rows, count - at), count) for at in starts]
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
@click.option("--seed", default=0, show_default=True, help="Another seed, other values of the same addresses.")
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
