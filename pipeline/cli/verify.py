"""``sot-ingest verify``: whether readers see what was loaded, and what upstream has."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date

import click
from loguru import logger

from pipeline import exit_codes
from pipeline.cli import options, output
from pipeline.dates import last_days, yesterday
from pipeline.errors import PipelineError
from pipeline.graph.context import get_context
from pipeline.logs import printable
from pipeline.operations.findings import Finding
from pipeline.operations.verify import Verified, count_rows, verify_publications
from pipeline.runs import lifecycle
from pipeline.runs.inspection import Inspection


@click.command(epilog="\b\nExample:\n  sot-ingest verify --days 7 --network torus")
@click.option("--days", type=click.IntRange(1, 3_660), help="Days back.  [default: 7, or 1 with --date]")
@options.day("UTC day to verify, the last of --days.  [default: yesterday]")
@options.networks
@options.window_days
@click.option("--deep", is_flag=True, help="Download the files again, and compare every row.")
@options.as_json
def command(
    days: int | None, day: date | None, networks: tuple[str, ...], window_days: int, deep: bool, as_json: bool
) -> None:
    """Compare published rows with the ledger, and with the manifest at the source; change nothing.

    What is wrong is sent to NOTIFY_URLS, and when it no longer is.

    Exit code 0 when all is as it should be, 3 when something is found, 35 when that is not known.
    """
    chosen = options.load_settings()
    last = day or yesterday()
    first = last_days(days or (1 if day else 7), last)[0]
    names = options.chosen_networks(chosen, networks)

    def inspect(inspection: Inspection) -> int:
        found: list[Verified] = []
        for network in names:
            try:
                found += verify_publications(get_context(), [network], first, last, window_days, deep=deep)
            except PipelineError as error:
                logger.bind(hint=error.hint).error("Could not verify: {}", error)
                if as_json:
                    output.print_error(exit_codes.UNKNOWN, [f"Could not verify: {error}"], error.hint)
                inspection.add(network, [f"  cause: {error}", f"  hint: {error.hint}"], exit_codes.UNKNOWN)
                return exit_codes.UNKNOWN
            inspection.add(network, [], exit_codes.UNKNOWN)
        for each in found:
            place = f"{each.snapshot.network} {each.snapshot.processing_date.isoformat()} ({window_days} days)"
            inspection.add(place, [_paragraph(each, finding) for finding in each.faults], exit_codes.FINDINGS)
        if as_json:
            output.print_json([each.as_dict() for each in found])
        else:
            _print(found, first, last)
        return exit_codes.FINDINGS if any(each.faults for each in found) else 0

    sys.exit(lifecycle.run_inspection(names, inspect))


def _print(found: Sequence[Verified], first: date, last: date) -> None:
    """Print each finding in a paragraph, for it is too long for a table, then how much was looked at."""
    for each in found:
        for finding in each.findings:
            for line in _paragraph(each, finding).split("\n"):
                output.print_sentence(line, hanging=" " * 12)
    if not found:
        click.echo(f"Nothing is published from {first.isoformat()} to {last.isoformat()}.")
        return
    faults = sum(len(each.faults) for each in found)
    notes = sum(len(each.findings) for each in found) - faults
    outcome = _number(faults, "finding") if faults else "as they were loaded"
    noted = f", {_number(notes, 'note')}" if notes else ""
    click.echo(f"Verified {_number(len(found), 'publication')} with {count_rows(found):,} rows: {outcome}{noted}")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _paragraph(each: Verified, finding: Finding) -> str:
    snapshot = each.snapshot
    where = f"{snapshot.processing_date.isoformat()} {snapshot.network}, {snapshot.window_days} days"
    lines = [
        f"{where}: {finding.kind}" + ("" if finding.is_fault else " (not a fault)"),
        *([f"  table     {finding.table}, load {finding.load_id}"] if finding.table else []),
        f"  found     {finding.found}",
        f"  expected  {finding.expected}",
        f"  {'to do' if finding.is_fault else 'note '}     {finding.hint}",
    ]
    return "\n".join(map(printable, lines)) + "\n"
