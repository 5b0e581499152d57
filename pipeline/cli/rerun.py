"""``sot-ingest rerun``: a day again, whatever is proven."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipeline.cli import options, output
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME


@click.command(epilog="\b\nExample:\n  sot-ingest rerun --date 2025-08-01 --network torus --table raw_alerts --yes")
@options.day("UTC day to load again.", required=True)
@options.network("Network.", required=True)
@click.option(
    "--table",
    "tables",
    type=click.Choice(list(BY_NAME)),
    multiple=True,
    help="Table to load again; repeatable. The others stay as they are published.  [default: all of INGESTION_TABLES]",
)
@options.window_days
@options.workers
@options.scheduler
@options.yes
@options.as_json
def command(**given: Any) -> None:
    """Forget what is proven of a day, then do the ordinary run: download, validate, load, publish.

    With --table only the files of these tables are needed. Readers see what they saw until the new publication takes
    its place. Without a snapshot at the source nothing is forgotten.
    """
    from pipeline.runs.ingest import ingest_snapshots, result_of  # noqa: PLC0415  # luigi, drivers and all: not for --help

    chosen = options.load_settings()
    snapshot = Snapshot(given["network"], given["day"], given["window_days"])
    tables = given["tables"] or tuple(table.name for table in chosen.tables)
    if left_out := set(tables) - set(chosen.table_names):
        raise click.BadParameter(f"{', '.join(sorted(left_out))} is not in INGESTION_TABLES", param_hint="--table")
    output.confirm(f"Download {', '.join(tables)} of {snapshot} and load them again?", yes=given["yes"])
    code = ingest_snapshots([snapshot], workers=given["workers"], scheduler=given["scheduler"], force_tables=tables)
    if given["as_json"]:
        output.print_json(result_of(code, [snapshot]))
    sys.exit(code)
