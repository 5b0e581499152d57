"""``sot-ingest run``: the ordinary run."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipeline.commands import options
from pipeline.snapshot import Snapshot, yesterday


@click.command(epilog="\b\nExample:\n  sot-ingest run --date 2025-08-01 --network torus --local-scheduler")
@options.day("UTC day to ingest.  [default: yesterday]")
@options.networks
@options.window_days
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Steps at once.  [default: 2; 1 with an embedded warehouse]"
)
@click.option("--local-scheduler", is_flag=True, help="Schedule in this process instead of asking luigid.")
@click.option("--again", is_flag=True, help="Forget the proofs: download, load and publish anew.")
def command(**given: Any) -> None:
    """Ingest a day: the steps that are not proven yet, and no others."""
    from pipeline.run import ingest  # noqa: PLC0415  # luigi, drivers and all: not for --help

    chosen = options.take_over()
    day = given["day"] or yesterday()
    window = given["window_days"] or chosen.window_days
    snapshots = [Snapshot(network, day, window) for network in options.chosen_networks(chosen, given["networks"])]
    sys.exit(
        ingest(
            snapshots,
            workers=given["workers"],
            local_scheduler=given["local_scheduler"],
            again=given["again"],
        )
    )
