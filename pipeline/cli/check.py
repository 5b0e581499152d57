"""``sot-ingest check``: is what readers see fresh? For monitoring: the exit code says it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import click

from pipeline import exit_codes
from pipeline.cli import options, output
from pipeline.operations.freshness import Freshness, check_freshness, hours
from pipeline.runs import lifecycle
from pipeline.runs.inspection import Inspection


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

    What is wrong is sent to NOTIFY_URLS, and when it no longer is.

    Exit code 0 when all are, 3 when one is too old, has nothing published, or a replica does not show its newest day,
    35 when the warehouse does not tell.
    """
    chosen = options.load_settings()
    names = options.chosen_networks(chosen, networks)

    def inspect(inspection: Inspection) -> int:
        allowed, now = timedelta(seconds=max_age), datetime.now(UTC)
        found = check_freshness(names, window_days=window_days, max_age=allowed, now=now)
        if as_json:
            output.print_json([item.as_dict() for item in found])
        else:
            output.print_table(
                ["network", "state", "newest date", "published (UTC)", "age", "problem"],
                [_row(item) for item in found],
                right=["age"],
                optional=["published (UTC)"],
                narrowest=40,
            )
        for item in found:
            code = exit_codes.UNKNOWN if item.state == "unknown" else exit_codes.FINDINGS
            problems = [f"  {item.state}: {item.problem}"] if item.problem else []
            inspection.add(f"{item.network} ({window_days} days)", problems, code)
        return min((code for code in inspection.codes.values() if code), default=0)

    sys.exit(lifecycle.run_inspection(names, inspect))


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
