"""``sot-ingest unblock``: tasks that luigid gave up on."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date

import click

from pipeline.cli import options, output


@click.command(epilog="\b\nExample:\n  sot-ingest unblock --network torus --date 2025-08-01")
@options.network("Network.  [default: all]")
@options.day("UTC day.  [default: all]")
@options.as_json
def command(network: str | None, day: date | None, as_json: bool) -> None:
    """Let luigid run tasks again that it disabled, for they failed more often than its retry_count allows.

    A run that finds such a task ends with exit code 25; run again after this.
    """
    from pipeline.graph import luigid  # noqa: PLC0415  # luigi: not for --help

    options.load_settings()
    unblocked = luigid.unblock(network, day.isoformat() if day else None)
    if as_json:
        output.print_json([asdict(task) for task in unblocked])
    elif unblocked:
        rows = [[task.date, task.network, task.step] for task in unblocked]
        output.print_table(["date", "network", "unblocked"], rows)
    else:
        click.echo("luigid has disabled nothing.")
