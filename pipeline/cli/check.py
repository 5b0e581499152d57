"""``sot-ingest check``: is what readers see fresh? For monitoring: the exit code says it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import click

from pipeline import exit_codes
from pipeline.cli import options, output
from pipeline.operations.freshness import Freshness, check_freshness, hours


@click.command(epilog="\b\nExample:\n  sot-ingest check --max-age 26h --network torus")
@click.option(
    "--max-age",
    type=options.DurationType(),
    default="26h",
    show_default=True,
    help="Time since the end of the newest published day.",
)
@options.networks
@options.window_days
@options.as_json
def command(max_age: float, networks: tuple[str, ...], window_days: int, as_json: bool) -> None:
    """Tell whether each network's newest day is young enough.

    Exit code 0 when all are, 2 when one is too old or has nothing published, 35 when the warehouse does not tell.
    """
    chosen = options.load_settings()
    found = check_freshness(
        options.chosen_networks(chosen, networks),
        window_days=window_days,
        max_age=timedelta(seconds=max_age),
        now=datetime.now(UTC),
    )
    if as_json:
        output.print_json([item.as_dict() for item in found])
    else:
        output.print_table(
            ["network", "state", "newest date", "published (UTC)", "age", "problem"],
            [_row(item) for item in found],
            right=["age"],
        )
    states = {item.state for item in found}
    sys.exit(exit_codes.CONFIG if states & {"too old", "nothing"} else exit_codes.UNKNOWN if "unknown" in states else 0)


def _row(item: Freshness) -> list[str]:
    seen = item.publication
    return [
        item.network,
        item.state,
        seen.processing_date.isoformat() if seen else "-",
        f"{seen.published_at:%Y-%m-%d %H:%M}" if seen else "-",
        hours(item.age) if item.age is not None else "-",
        item.problem,
    ]
