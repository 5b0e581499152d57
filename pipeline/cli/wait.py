"""``sot-ingest wait``: until a day is published, for the jobs that read it."""

from __future__ import annotations

import sys
from datetime import date

import click

from pipeline import exit_codes
from pipeline.cli import options, output
from pipeline.dates import yesterday
from pipeline.errors import WarehouseError
from pipeline.graph.context import get_context
from pipeline.logs import printable
from pipeline.operations.readiness import Readiness, wait_until_published
from pipeline.runs import lifecycle
from pipeline.snapshot import Snapshot

_CODES = {
    "published": 0,
    "not yet": exit_codes.MISSING,
    "failed": exit_codes.TASK_FAILED,
    "held": exit_codes.TASK_FAILED,
}


@click.command(epilog="\b\nExample:\n  sot-ingest wait --date 2025-08-01 --network torus --timeout 2h && dbt build")
@options.day("UTC day to wait for.  [default: yesterday]")
@options.networks
@click.option(
    "--timeout",
    type=options.DurationType(),
    default="0s",
    help="How long to wait, like 30m or 2h.  [default: look once]",
)
@options.window_days
@options.as_json
def command(day: date | None, networks: tuple[str, ...], timeout: float, window_days: int, as_json: bool) -> None:
    """Wait until readers see a day, all tables of every network that is named. Starts no run.

    Exit code 0 when it is published, 20 when it is not yet, 30 when the newest run failed or an audit holds it back, 35
    when the warehouse does not tell.
    """
    chosen = options.load_settings()
    named = options.chosen_networks(chosen, networks)
    snapshots = [Snapshot(network, day or yesterday(), window_days) for network in named]
    try:
        found = wait_until_published(get_context(), snapshots, timeout)
    except WarehouseError as error:
        lifecycle.log_error(error)
        if as_json:
            output.print_error(exit_codes.UNKNOWN, *lifecycle.texts_of(error))
        sys.exit(exit_codes.UNKNOWN)
    code = max(_CODES[each.state] for each in found)
    if as_json:
        snapshots_found = [each.as_dict() for each in found]
        output.print_json({"exit_code": code, "state": _worst(found), "snapshots": snapshots_found})
    else:
        output.print_table(["date", "network", "state", "published (UTC)"], [_row(each) for each in found])
        for each in found:
            if each.error:
                output.print_sentence(f"{each.snapshot.label}: {printable(each.error)}", hanging="  ")
                output.print_sentence(f"  → {printable(each.hint)}", hanging="  ")
    sys.exit(code)


def _worst(found: list[Readiness]) -> str:
    return max((each.state for each in found), key=_CODES.__getitem__)


def _row(each: Readiness) -> list[str]:
    seen = each.publication
    return [
        each.snapshot.processing_date.isoformat(),
        each.snapshot.network,
        each.state,
        f"{seen.published_at:%Y-%m-%d %H:%M}" if seen else "-",
    ]
