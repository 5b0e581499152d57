"""``sot-ingest rollback``: what readers saw before."""

from __future__ import annotations

from datetime import date

import click

from pipeline.cli import options, output
from pipeline.graph.context import get_context
from pipeline.operations.rollback import Rollback, plan_rollback, roll_back
from pipeline.snapshot import Snapshot
from pipeline.warehouse.publications import Publication


@click.command(epilog="\b\nExample:\n  sot-ingest rollback --date 2025-08-01 --network torus")
@options.day("UTC day to roll back.", required=True)
@options.network("Network.", required=True)
@options.window_days
@click.option("--to", metavar="PUBLICATION", help="Id of the publication.  [default: the one before the newest]")
@options.yes
@options.as_json
def command(day: date, network: str, window_days: int, to: str | None, yes: bool, as_json: bool) -> None:
    """Show readers an older publication of a day again.

    Nothing is loaded. Later runs leave it so until upstream publishes a new manifest, or you say rerun.
    """
    options.load_settings()
    snapshot = Snapshot(network, day, window_days)
    planned = plan_rollback(get_context(), snapshot, to)
    if not as_json:
        _print_plan(planned)
    output.confirm(f"Show readers of {snapshot} publication {planned.target.publication_id} again?", yes=yes)
    published = roll_back(get_context(), planned)
    if as_json:
        output.print_json(_as_dict(planned, published))
    else:
        click.echo(f"Readers see it again, as publication {published.publication_id}.")


def _print_plan(planned: Rollback) -> None:
    output.print_table(
        ["publication", "published (UTC)", "action", "rows", "seen"],
        [_row(planned, publication) for publication in reversed(planned.past)],
        right=["rows"],
        optional=["rows"],
    )


def _row(planned: Rollback, publication: Publication) -> list[str]:
    is_seen, is_target = publication is planned.seen, publication is planned.target
    return [
        publication.publication_id,
        f"{publication.published_at:%Y-%m-%d %H:%M}",
        publication.action,
        f"{sum(publication.row_counts.values()):,}",
        "again" if is_target else "now" if is_seen else "",
    ]


def _as_dict(planned: Rollback, published: Publication) -> dict[str, object]:
    return {
        **planned.snapshot.as_dict(),
        "publication_id": published.publication_id,
        "published_at": published.published_at.isoformat(),
        "rolled_back_from": planned.seen.publication_id,
        "rolled_back_to": planned.target.publication_id,
        "manifest_sha256": published.manifest_sha256,
        "rows": dict(published.row_counts),
    }
