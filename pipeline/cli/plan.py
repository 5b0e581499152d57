"""``sot-ingest plan``: what a run would do and why, without doing it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
from loguru import logger

from pipeline import exit_codes
from pipeline.cli import options, output
from pipeline.dates import yesterday
from pipeline.errors import PipelineError
from pipeline.settings import get_settings
from pipeline.snapshot import Snapshot


@click.command(epilog="\b\nExample:\n  sot-ingest plan --date 2025-08-01 --network torus")
@options.day("UTC day that the run would be about.  [default: yesterday]")
@options.networks
@options.window_days
@options.as_json
def command(**given: Any) -> None:
    """Show what a run would do and why: its steps, bytes to download, rows to load. Does nothing."""
    from pipeline.graph.context import get_context  # noqa: PLC0415  # drivers and all: not for --help
    from pipeline.operations.plan import make_plan  # noqa: PLC0415

    chosen = options.load_settings()
    day, window = given["day"] or yesterday(), given["window_days"]
    networks = options.chosen_networks(chosen, given["networks"])
    try:
        found = [make_plan(get_context(), Snapshot(network, day, window)) for network in networks]
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
