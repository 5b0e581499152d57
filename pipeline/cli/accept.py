"""``sot-ingest accept``: publish what audits hold."""

from __future__ import annotations

import sys
from datetime import date

import click

from pipeline.cli import options, output
from pipeline.snapshot import Snapshot


@click.command(
    epilog="\b\nExample:\n  sot-ingest accept --date 2025-08-01 --network torus --reason 'upstream says it was quiet'"
)
@options.day("UTC day to accept.", required=True)
@options.network("Network.", required=True)
@click.option(
    "--audit", "audits", multiple=True, help="Audit to accept; repeatable. Others still hold.  [default: all that hold]"
)
@click.option("--reason", required=True, help="Why it is right as it is; recorded with your name.")
@options.window_days
@options.as_json
def command(day: date, network: str, audits: tuple[str, ...], reason: str, window_days: int, as_json: bool) -> None:
    """Publish a snapshot that audits hold, exactly as it was held.

    Not when upstream published another one since, or readers see a newer one. When other audits still hold it, it is
    not published, and the exit code is 30.
    """
    from pipeline.runs.accept import Wanted, accept_snapshot  # noqa: PLC0415  # luigi, drivers and all: not for --help

    if not any(map(str.isalnum, reason)):
        problem = f"{reason!r} has no word; expected why the snapshot is right as it is"
        raise click.BadParameter(problem, param_hint="--reason")
    options.load_settings()
    snapshot = Snapshot(network, day, window_days)
    result = accept_snapshot(Wanted(snapshot, audits, reason.strip()))
    seen = result.publication
    if as_json:
        output.print_json(
            {
                **snapshot.as_dict(),
                "exit_code": result.exit_code,
                "accepted": list(result.audits),
                "accepted_before": result.before or None,
                "publication_id": seen.publication_id if seen else None,
                "published_at": seen.published_at.isoformat() if seen else None,
                "rows": dict(seen.row_counts) if seen else None,
            }
        )
    elif result.before:
        click.echo(f"Nothing to do: {result.before}")
    elif seen:
        what = ", ".join(result.audits) or "what was accepted before"
        click.echo(f"Accepted {what}; readers see it as publication {seen.publication_id}.")
    sys.exit(result.exit_code)
