"""``sot-ingest run``: the ordinary run."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipeline.cli import options, output
from pipeline.dates import yesterday
from pipeline.snapshot import Snapshot


@click.command(epilog="\b\nExample:\n  sot-ingest run --date 2025-08-01 --network torus --wait 2h")
@options.day("UTC day to ingest.  [default: yesterday]")
@options.networks
@options.window_days
@options.workers
@options.scheduler
@click.option(
    "--wait",
    type=options.DurationType(),
    default="0s",
    help="How long to wait for snapshots that are not at the source, like 30m or 2h.  [default: not at all]",
)
@options.as_json
def command(**given: Any) -> None:
    """Ingest a day: the steps that are not proven yet, and no others."""
    from pipeline.runs.ingest import ingest_snapshots, result_of  # noqa: PLC0415  # luigi, drivers and all: not for --help

    chosen = options.load_settings()
    day, window = given["day"] or yesterday(), given["window_days"]
    snapshots = [Snapshot(network, day, window) for network in options.chosen_networks(chosen, given["networks"])]
    code = ingest_snapshots(snapshots, workers=given["workers"], scheduler=given["scheduler"], wait=given["wait"])
    if given["as_json"]:
        output.print_json(result_of(code, snapshots))
    sys.exit(code)
