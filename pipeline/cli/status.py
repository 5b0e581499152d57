"""``sot-ingest status``: what is published, rolled back, half done or missing."""

from __future__ import annotations

from datetime import date

import click

from pipeline.cli import options, output
from pipeline.dates import yesterday
from pipeline.operations.status import Status, collect
from pipeline.tables import TABLES


@click.command(epilog="\b\nExample:\n  sot-ingest status --days 3 --network torus")
@click.option("--days", type=click.IntRange(1, 3_660), default=7, show_default=True, help="Days back from yesterday.")
@options.day("Last day to show.  [default: yesterday]")
@options.networks
@options.window_days
@options.as_json
def command(days: int, day: date | None, networks: tuple[str, ...], window_days: int, as_json: bool) -> None:
    """Show networks and days: what is published or rolled back, half done and at which step, or missing."""
    named = options.chosen_networks(options.load_settings(), networks)
    found = collect(named, days=days, last=day or yesterday(), window_days=window_days)
    if as_json:
        output.print_json([item.as_dict() for item in found])
    else:
        _print(found)


def _print(found: list[Status]) -> None:
    stems = [table.stem.removeprefix("address_") for table in TABLES]
    newest_first = sorted(found, key=lambda item: item.snapshot.processing_date, reverse=True)
    output.print_table(
        ["date", "network", "state", *stems, "published (UTC)", "manifest", "next step"],
        [_row(item) for item in newest_first],
        right=stems,
        optional=["manifest", "published (UTC)", *reversed(stems)],
    )
    for item in newest_first:
        for text in item.behind:
            click.echo(f"{item.snapshot.processing_date.isoformat()} {item.snapshot.network}: {text}")


def _row(item: Status) -> list[str]:
    seen = item.publication
    rows = seen.row_counts if seen else {}
    return [
        item.snapshot.processing_date.isoformat(),
        item.snapshot.network,
        item.state,
        *(f"{rows[table.name]:,}" if table.name in rows else "-" for table in TABLES),
        f"{seen.published_at:%Y-%m-%d %H:%M}" if seen else "-",
        seen.manifest_sha256[:12] if seen else "-",
        item.step or "",
    ]
