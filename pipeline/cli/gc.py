"""``sot-ingest gc``: what is no longer needed, removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from dateutil.relativedelta import relativedelta

from pipeline.cli import options, output
from pipeline.dates import first_day, yesterday
from pipeline.graph.context import get_context
from pipeline.operations import gc
from pipeline.operations.gc import Garbage, Policy


@click.command(epilog="\b\nExample:\n  sot-ingest gc --keep-versions 2 --keep 13months --dry-run")
@click.option(
    "--keep-versions",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Publications of each snapshot whose loads are kept, the newest ones.",
)
@click.option(
    *("--keep", "--keep-days", "keep"),
    type=options.SpanType(),
    help="Days of snapshots to keep, like 400, 30d, 13months or 1y; older days are retired.  [default: INGESTION_KEEP]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@options.yes
@options.as_json
def command(keep_versions: int, keep: relativedelta | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove superseded loads, what is left of dead attempts, work files of published snapshots.

    With --keep, or INGESTION_KEEP, also what is published of older days: readers see no rows of them any more. Readers
    in the middle of a query keep what they read. Snapshots that a run is at work on are left alone.
    """
    chosen, now = options.load_settings(), datetime.now(UTC)
    keep = keep or chosen.retention
    oldest = first_day(keep, yesterday()) if keep else None
    policy = Policy(keep_versions, oldest, now)
    found = gc.find(get_context(), policy)
    if not dry_run and (found.loads or found.files or found.retired):
        if not as_json and not yes:
            _print(found, "would be removed")
        output.confirm(f"Remove {_totals(found)}?", yes=yes)
        found = gc.remove_garbage(get_context(), policy, found)
    if not dry_run:
        gc.forget_partitions(get_context())
    if as_json:
        output.print_json({"dry_run": dry_run, **_as_dict(found)})
    else:
        _print(found, "would be removed" if dry_run else "removed")


def _print(found: Garbage, what: str) -> None:
    rows = list(_rows(found))
    if rows:
        output.print_table(
            ["date", "network", "window", "why", "what", "rows", "MB"],
            rows,
            right=["window", "rows", "MB"],
            optional=["window", "rows"],
            prose="what",
        )
    for line in found.left:
        click.echo(f"Left alone: {line}")
    click.echo(f"{_totals(found)} {what}." if rows else "Nothing to remove.")


def _rows(found: Garbage) -> Iterator[list[str]]:
    """Yield a line for each snapshot and reason, and for each work file."""
    counts: Counter[tuple[Any, str]] = Counter()
    rows: Counter[tuple[Any, str]] = Counter()
    size: Counter[tuple[Any, str]] = Counter()
    for each in found.loads:
        key = (each.load.snapshot, each.why)
        counts[key] += 1
        rows[key] += each.load.rows
        size[key] += each.load.bytes
    for (snapshot, why), count in sorted(counts.items()):
        place = [snapshot.processing_date.isoformat(), snapshot.network, str(snapshot.window_days)]
        yield [*place, why, _many(count, "load"), f"{rows[snapshot, why]:,}", _megabytes(size[snapshot, why])]
    for snapshot in found.retired:
        place = [snapshot.processing_date.isoformat(), snapshot.network, str(snapshot.window_days)]
        yield [*place, "past retention", "publication retired", "-", "-"]
    for file in found.files:
        yield ["-", "-", "-", file.why, str(file.path), "-", _megabytes(file.bytes)]


def _totals(found: Garbage) -> str:
    rows = sum(each.load.rows for each in found.loads)
    loads = f"{_many(len(found.loads), 'load')} with {rows:,} rows" if found.loads else ""
    retired = _many(len(found.retired), "publication") if found.retired else ""
    work = _many(len(found.files), "work file") if found.files else ""
    return f"{', '.join(filter(None, [loads, retired, work]))}, {_megabytes(_bytes(found))} MB in all"


def _bytes(found: Garbage) -> int:
    return sum(each.load.bytes for each in found.loads) + sum(file.bytes for file in found.files)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def _as_dict(found: Garbage) -> dict[str, Any]:
    return {
        "loads": [
            {
                **each.load.snapshot.as_dict(),
                "table": each.load.table_name,
                "load_id": each.load.load_id,
                "why": each.why,
                "rows": each.load.rows,
                "bytes": each.load.bytes,
            }
            for each in found.loads
        ],
        "retired": [str(snapshot) for snapshot in found.retired],
        "work_files": [{"path": str(file.path), "why": file.why, "bytes": file.bytes} for file in found.files],
        "left_alone": list(found.left),
        "rows": sum(each.load.rows for each in found.loads),
        "bytes": _bytes(found),
    }
