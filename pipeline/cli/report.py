"""``sot-ingest report``: the page that shows how the ingestion has been."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli import options, output
from pipeline.dates import yesterday


@click.command(epilog="\b\nExample:\n  sot-ingest report --html /srv/www/sot-ingest.html --days 90")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), help="File; - for stdout.")
@click.option("--days", type=click.IntRange(1, 3_660), default=90, show_default=True, help="Days back from yesterday.")
@options.networks
@options.window_days
@options.as_json
def command(html: Path | None, days: int, networks: tuple[str, ...], window_days: int, as_json: bool) -> None:
    """Write one page: calendar, rows, durations, failures; or print what is on it as JSON."""
    from pipeline.graph.context import get_context  # noqa: PLC0415  # drivers and all: not for --help
    from pipeline.operations.report import collected, render, write_page  # noqa: PLC0415

    if html is None and not as_json:
        raise click.UsageError("say where the page goes, --html FILE, or ask for --json")
    options.load_settings()
    found = collected(get_context(), days=days, last=yesterday(), networks=networks, window_days=window_days)
    if html is not None and str(html) == "-":
        click.echo(render(found))
    elif html is not None:
        write_page(html, render(found))
    if as_json:
        output.print_json([entry.as_dict() for entry in found.newest_first])
    elif html is not None and str(html) != "-":
        click.echo(
            f"{html}: {len(found.newest_first)} snapshots of {', '.join(each.network for each in found.networks)}"
        )
