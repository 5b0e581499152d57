"""``sot-ingest schedule``: what runs next."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from pipeline import environment, logs
from pipeline.cli import options, output


@click.command(epilog="\b\nExamples:\n  sot-ingest schedule\n  sot-ingest schedule --crontab docker/crontab")
@click.option(
    "--crontab",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Crontab of pipeline.cron.  [default: the image's if it is there, else the timers of systemd]",
)
@options.as_json
def command(crontab: Path | None, as_json: bool) -> None:
    """Show what runs next and when, the soonest first: from the crontab in a container, from timers on a host."""
    from pipeline.operations.schedule import schedule_of  # noqa: PLC0415

    logs.configure(environment.log_format(), "INFO")
    now = datetime.now(UTC)
    found = schedule_of(crontab, now)
    if as_json:
        output.print_json([due.as_dict() for due in found])
        return
    if not found:
        click.echo("Nothing is scheduled.")
        return
    rows = [
        [
            f"{due.at:%a %Y-%m-%d %H:%M}" if due.at else "-",
            output.duration((due.at - now).total_seconds()) if due.at else "-",
            f"{due.last:%Y-%m-%d %H:%M}" if due.last else "-",
            due.what,
        ]
        for due in found
    ]
    output.print_table(["next (UTC)", "in", "last (UTC)", "what"], rows, optional=["last (UTC)"])
