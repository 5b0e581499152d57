"""``sot-ingest backfill``: the days of a range that are not published."""

from __future__ import annotations

import sys
from datetime import date
from typing import Any

import click
from dateutil.relativedelta import relativedelta

from pipeline import exit_codes
from pipeline.cli import options, output
from pipeline.dates import first_day, yesterday
from pipeline.snapshot import Snapshot


@click.command(
    epilog="\b\nExamples:\n  sot-ingest backfill --from 2025-01-19 --to 2025-08-01 --reverse\n"
    "  sot-ingest backfill --last 6months --limit 30 --dry-run"
)
@click.option("--from", "first", type=options.DateType(), help="UTC day to begin with.")
@click.option("--last", "span", type=options.SpanType(), help="How much up to --to, like 30d, 6months or 1y.")
@click.option("--to", "last", type=options.DateType(), help="UTC day to end with.  [default: yesterday]")
@options.networks
@options.window_days
@click.option("--reverse", is_flag=True, help="The newest day first.")
@click.option("--check-source", is_flag=True, help="Look whether upstream published a published day again.")
@click.option("--limit", type=click.IntRange(1), help="At most so many days that are not published.  [default: all]")
@click.option("--dry-run", is_flag=True, help="Say what would be ingested, and ingest nothing.")
@options.workers
@options.scheduler
@options.as_json
def command(first: date | None, span: relativedelta | None, last: date | None, as_json: bool, **given: Any) -> None:
    """Ingest the days of a range that are not published; the others cost one query a network.

    A day without a snapshot at the source, or with a bad one, does not stop the others: it is listed at the end, with
    exit code 20 when all that is left is not at the source, and 30 when something failed.
    """
    from pipeline.graph.context import get_context  # noqa: PLC0415
    from pipeline.graph.remaining import snapshots_in_range  # noqa: PLC0415
    from pipeline.runs.backfill import Backfill, chosen_snapshots, run_backfill  # noqa: PLC0415  # not for --help

    last = last or yesterday()
    if first is None and span is not None:
        first = first_day(span, last)
    elif first is None or span is not None:
        raise click.UsageError("say where the range begins: either --from or --last")
    if last < first:
        raise click.BadParameter(f"{last} is before {first}", param_hint="--to")
    chosen = options.load_settings()
    networks = options.chosen_networks(chosen, given.pop("networks"))
    snapshots = snapshots_in_range(networks, first, last, given.pop("window_days"))
    is_dry = given.pop("dry_run")
    wanted = Backfill(snapshots, **given)
    if is_dry:
        _print_chosen(len(snapshots), *chosen_snapshots(get_context(), wanted), as_json=as_json)
        return
    result = run_backfill(wanted)
    if result.exit_code not in {exit_codes.UNKNOWN, exit_codes.LUIGI}:
        _print(len(snapshots), result, as_json=as_json)
    elif as_json:
        output.print_error(result.exit_code, [exit_codes.MEANINGS[result.exit_code]], "the log's ERROR lines say more")
    sys.exit(result.exit_code)


def _print_chosen(asked: int, to_do: list[Snapshot], beyond: int, *, as_json: bool) -> None:
    """Print what a backfill would ingest: a line a day."""
    if as_json:
        counts = {"dry_run": True, "asked": asked, "published_before": asked - len(to_do) - beyond}
        output.print_json({**counts, "to_do": [each.as_dict() for each in to_do], "beyond_limit": beyond})
        return
    by_day: dict[date, list[str]] = {}
    for snapshot in to_do:
        by_day.setdefault(snapshot.processing_date, []).append(snapshot.network)
    if by_day:
        output.print_table(["date", "networks"], [[day.isoformat(), ", ".join(names)] for day, names in by_day.items()])
    click.echo(f"{len(to_do)} of {asked} snapshots would be ingested{_beyond(beyond)}.")


def _beyond(count: int) -> str:
    return f", {count} beyond --limit" if count else ""


def _print(asked: int, result: Any, *, as_json: bool) -> None:
    counts = {
        "exit_code": result.exit_code,
        "meaning": exit_codes.MEANINGS[result.exit_code],
        "asked": asked,
        "published_before": result.published_before,
        "published_now": result.published_now,
        "left": [item.as_dict() for item in result.left],
        "beyond_limit": result.beyond_limit,
    }
    if as_json:
        output.print_json(counts)
        return
    click.echo(
        f"{asked} snapshots: {result.published_before} were published, {result.published_now} are now, "
        f"{len(result.left)} left{_beyond(result.beyond_limit)}"
    )
    if result.left:
        rows = [
            [item.snapshot.processing_date.isoformat(), item.snapshot.network, item.reason, item.step]
            for item in result.left
        ]
        output.print_table(["date", "network", "left because", "next step"], rows)
