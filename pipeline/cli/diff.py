"""``sot-ingest diff``: what differs between two published days, or two publications of a day."""

from __future__ import annotations

from datetime import date

import click

from pipeline.cli import options, output
from pipeline.graph.context import get_context
from pipeline.operations.diff import Difference, choose_publications, compare_publications
from pipeline.snapshot import Snapshot
from pipeline.warehouse.compare import TableChanges
from pipeline.warehouse.publications import Publication

_COLUMNS = 5  #: that changed most, shown of each table


@click.command(
    epilog="\b\nExamples:\n  sot-ingest diff --network torus --date 2025-08-01 --date 2025-08-02"
    "\n  sot-ingest diff --network torus --date 2025-08-01"
)
@options.network("Network.", required=True)
@click.option(
    "--date",
    "days",
    type=options.DateType(),
    multiple=True,
    required=True,
    help="UTC day; twice to compare two days, once to compare publications of one.",
)
@click.option(
    "--publication",
    "ids",
    multiple=True,
    help="Id of a publication of the one day; up to two.  [default: the newest and the one before]",
)
@click.option(
    "--by",
    "amount",
    metavar="COLUMN",
    help="Column whose largest movements are shown, of what both have.  [default: volumes]",
)
@options.window_days
@options.as_json
def command(
    network: str,
    days: tuple[date, ...],
    ids: tuple[str, ...],
    amount: str | None,
    window_days: int | None,
    as_json: bool,
) -> None:
    """Compare what readers see: by table rows added, removed and changed, the columns that changed most, the movers.

    Of two days alerts are compared by address and typology, and clusters by type and addresses, for upstream's ids
    contain the date.
    """
    if len(days) > 2 or len(ids) > 2 or (ids and len(days) > 1):
        raise click.UsageError("expected one or two --date; with one of them up to two --publication")
    chosen = options.load_settings()
    options.chosen_networks(chosen, (network,))
    snapshots = tuple(Snapshot(network, day, window_days or chosen.window_days) for day in sorted(days))
    before, after = choose_publications(get_context(), snapshots, ids)
    found = compare_publications(get_context(), network, before, after, amount)
    if as_json:
        output.print_json(found.as_dict())
    else:
        _print(found)


def _print(found: Difference) -> None:
    for name, side in (("before", found.before), ("after", found.after)):
        click.echo(f"{name:<6}  {_described(side)}")
    click.echo()
    output.print_table(
        ["table", "before", "after", "added", "removed", "changed"],
        [
            [name, *(f"{n:,}" for n in (each.rows_before, each.rows_after, each.added, each.removed, each.changed))]
            for name, each in found.tables.items()
        ],
        right=["before", "after", "added", "removed", "changed"],
    )
    for name, changes in found.tables.items():
        _print_columns(name, changes)
        _print_movements(name, found.amounts[name], changes)


def _print_columns(name: str, changes: TableChanges) -> None:
    if changes.columns:
        click.echo()
        rows = [[column, f"{count:,}"] for column, count in list(changes.columns.items())[:_COLUMNS]]
        output.print_table([f"columns of {name}", "rows with another value"], rows, right=["rows with another value"])


def _print_movements(name: str, amount: str, changes: TableChanges) -> None:
    if changes.movements:
        click.echo()
        rows = [
            [f"{each.after - each.before:+,.2f}", f"{each.before:,.2f}", f"{each.after:,.2f}", each.identity]
            for each in changes.movements
        ]
        moved = f"{amount} moved by"
        output.print_table(
            [moved, "from", "to", f"in {name}"], rows, right=[moved, "from", "to"], optional=["from", "to"]
        )


def _described(side: Publication) -> str:
    return (
        f"{side.processing_date} ({side.window_days} days), {side.action} of "
        f"{side.published_at:%Y-%m-%d %H:%M} UTC, {side.publication_id}"
    )
