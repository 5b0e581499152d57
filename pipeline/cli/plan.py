"""``sot-ingest plan``: what a run would do and why, without doing it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import click
from loguru import logger

from pipeline import exit_codes
from pipeline.cli import options, output
from pipeline.dates import yesterday
from pipeline.errors import PipelineError
from pipeline.settings import get_settings


@click.command(
    epilog="\b\nExamples:\n  sot-ingest plan --date 2025-08-01 --network torus\n"
    "  sot-ingest plan --from 2025-07-01 --to 2025-08-01"
)
@options.day("UTC day that the run would be about.  [default: yesterday]")
@click.option("--from", "first", type=options.DateType(), help="UTC day to begin with, of a backfill.")
@click.option("--to", "last", type=options.DateType(), help="UTC day to end with.  [default: yesterday]")
@options.networks
@options.window_days
@options.as_json
def command(**given: Any) -> None:
    """Show what a run would do and why: its steps, bytes to download, rows to load. Does nothing.

    With --from and --to what a backfill would do, which costs requests for each day; backfill --dry-run counts only.
    """
    from pipeline.graph.context import get_context  # noqa: PLC0415  # drivers and all: not for --help
    from pipeline.graph.remaining import snapshots_in_range  # noqa: PLC0415
    from pipeline.operations.plan import make_plan  # noqa: PLC0415

    chosen = options.load_settings()
    days = _days(given["day"], given["first"], given["last"])
    networks = options.chosen_networks(chosen, given["networks"])
    snapshots = snapshots_in_range(networks, *days, given["window_days"])
    try:
        found = [make_plan(get_context(), snapshot) for snapshot in snapshots]
    except PipelineError as error:
        logger.bind(hint=error.hint).error("Could not tell what is to be done: {}", error)
        if given["as_json"]:
            output.print_error(exit_codes.UNKNOWN, [f"Could not tell what is to be done: {error}"], error.hint)
        sys.exit(exit_codes.UNKNOWN)
    if given["as_json"]:
        output.print_json([item.as_dict() for item in found])
        return
    output.print_table(
        ["date", "network", "step", "tables", "bytes", "rows", "why"],
        [row for item in found for row in _rows(item)],
        right=["bytes", "rows"],
        optional=["rows", "bytes"],
    )
    click.echo(
        f"\n{_sum(item.bytes for item in found)} bytes to download, {_sum(item.rows for item in found)} rows to load"
    )


def _days(day: date | None, first: date | None, last: date | None) -> tuple[date, date]:
    """Return the first and the last day that are asked about."""
    if first is None:
        if last is not None:
            raise click.UsageError("say with --from where the range begins that --to ends")
        return day or yesterday(), day or yesterday()
    if day is not None:
        raise click.UsageError("say either --date or --from")
    last = last or yesterday()
    if last < first:
        raise click.BadParameter(f"{last} is before {first}", param_hint="--to")
    return first, last


def _rows(item: Any) -> Iterator[list[str]]:
    """Yield a line for each step of a plan, or the one that says why there is none."""
    day, network = item.snapshot.processing_date.isoformat(), item.snapshot.network
    if not item.steps:
        yield [day, network, "none", "", "", "", item.reason]
    for step in item.steps:
        tables = "all" if len(step.tables) == len(get_settings().tables) else ", ".join(step.tables)
        yield [day, network, step.step, tables, _number(step.bytes), _number(step.rows), step.reason]


def _sum(counts: Iterable[int | None]) -> str:
    """Return the sum of what is known."""
    known = list(counts)
    return ("at least " if None in known else "") + _number(sum(count or 0 for count in known))


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"
