"""``sot-ingest audit``: what the audits find in a day that is published, held or loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import date

import click
from loguru import logger

from pipeline import exit_codes
from pipeline.audits.runner import AuditResult, fill_message, shown
from pipeline.cli import options, output
from pipeline.dates import yesterday
from pipeline.errors import PipelineError
from pipeline.graph.auditing import compared_days, require_right_audits
from pipeline.graph.context import get_context
from pipeline.operations.audit import Audited, ask_again
from pipeline.snapshot import Snapshot


@click.command(epilog="\b\nExample:\n  sot-ingest audit --date 2025-08-01 --network torus")
@options.day("UTC day to audit.  [default: yesterday]")
@options.networks
@options.window_days
@options.as_json
def command(day: date | None, networks: tuple[str, ...], window_days: int, as_json: bool) -> None:
    """Ask the audits about a day, and show all figures, also those that are well; record nothing.

    Of what was loaded last: held, not published yet, or what readers see.

    Exit code 0 when all is well, 3 when something is wrong that nobody accepted, 20 when of a network nothing is
    published or loaded, 35 when that is not known.
    """
    chosen = options.load_settings()
    names = options.chosen_networks(chosen, networks)
    require_right_audits(get_context(), names)
    found: list[Audited] = []
    for network in names:
        snapshot = Snapshot(network, day or yesterday(), window_days)
        try:
            audited = ask_again(get_context(), snapshot)
        except PipelineError as error:
            code = exit_codes.UNKNOWN if error.transient else exit_codes.TASK_FAILED
            logger.bind(**snapshot.log_fields, hint=error.hint).error("Could not audit: {}", error)
            if as_json:
                output.print_error(code, [f"Could not audit: {error}"], error.hint)
            sys.exit(code)
        if audited:
            found.append(audited)
        elif not as_json:
            click.echo(f"{snapshot.label}: nothing is published or loaded\n")
    if as_json:
        output.print_json([each.as_dict() for each in found])
    else:
        for each in found:
            _print(each)
    sys.exit(_code_of(found, len(names)))


def _code_of(found: Sequence[Audited], asked: int) -> int:
    if any(each.is_wrong for each in found):
        return exit_codes.FINDINGS
    return exit_codes.MISSING if len(found) < asked else 0


def _print(audited: Audited) -> None:
    candidate = audited.candidate
    click.echo(f"{candidate.snapshot.label}: {audited.state}; compared with {compared_days(candidate.dates)}\n")
    rows = []
    for result, outcome in audited.results:
        first, *others = [*_figures(result)] or ["nothing found"]
        rows += [[result.name, result.chosen.level, outcome, first], *(["", "", "", other] for other in others)]
    output.print_table(["audit", "level", "outcome", "found"], rows)
    click.echo()


def _figures(result: AuditResult) -> Iterator[str]:
    """Yield a line for each row: what is wrong in the audit's words, what is well as figures."""
    for row in result.figures:
        if row.get("wrong", 1):
            yield fill_message(result.chosen.audit.message, row)
        else:
            yield " ".join(f"{name}={shown(value)}" for name, value in row.items() if name != "wrong")
