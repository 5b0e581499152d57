"""``sot-ingest history``: what runs did, how long it took, and why it failed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import click

from pipeline.cli import options, output
from pipeline.dates import yesterday
from pipeline.logs import printable
from pipeline.operations.history import Attempt, History, collect
from pipeline.warehouse.step_log import StepRecord


@click.command(
    epilog="\b\nExamples:\n  sot-ingest history --days 3\n  sot-ingest history --date 2025-08-01 --network torus"
)
@options.day("The day to show, step by step where there is one network.  [default: the last days]")
@click.option("--days", type=click.IntRange(1, 3_660), help="Days back from the date, or from yesterday.  [default: 7]")
@options.networks
@options.window_days
@options.as_json
def command(day: date | None, days: int | None, networks: tuple[str, ...], window_days: int, as_json: bool) -> None:
    """Show what runs did about each day, in the order of time: how long, what came of it, and why not more."""
    chosen = options.load_settings()
    named = options.chosen_networks(chosen, networks)
    span = days or (1 if day else 7)
    found = collect(named, days=span, last=day or yesterday(), window_days=window_days)
    if as_json:
        output.print_json([item.as_dict() for item in found])
    elif not found:
        click.echo("No run did anything about these days.")
    elif day and span == 1 and len(named) == 1:
        _print_steps(found[0])
    else:
        _print_attempts(found)


def _print_attempts(found: list[History]) -> None:
    attempts = sorted((each for item in found for each in item.attempts), key=lambda each: each.started_at)
    output.print_table(
        ["date", "network", "started (UTC)", "took", "outcome", "step", "host"],
        [_row(attempt) for attempt in attempts],
        right=["took"],
        optional=["host", "took"],
    )
    _print_causes(attempts)


def _row(attempt: Attempt) -> list[str]:
    snapshot, troubles = attempt.steps[0].snapshot, attempt.troubles
    more = f" and {len(troubles) - 1} more" if len(troubles) > 1 else ""
    step = troubles[0].title + more if troubles else attempt.steps[-1].title if attempt.outcome == "half done" else ""
    return [
        snapshot.processing_date.isoformat(),
        snapshot.network,
        f"{attempt.started_at:%Y-%m-%d %H:%M:%S}",
        output.duration(attempt.seconds),
        attempt.outcome,
        step,
        attempt.host,
    ]


def _print_causes(attempts: list[Attempt]) -> None:
    """Print why steps were not done."""
    for attempt in attempts:
        for step in attempt.troubles:
            day, network = step.snapshot.processing_date, step.snapshot.network
            click.echo(f"\n{day} {network}, {step.started_at:%Y-%m-%d %H:%M:%S}, {printable(step.title)}:")
            for line in filter(None, (step.error, step.hint)):
                output.print_sentence(f"  {printable(line)}", hanging="  ")


def _print_steps(item: History) -> None:
    rows = [row for attempt in reversed(item.attempts) for row in _step_rows(attempt)]
    facts = ("took", "rows", "bytes")
    output.print_table(
        ["run", "started (UTC)", "step", "state", *facts, "host"],
        rows,
        right=facts,
        optional=["host", "run"],
        prose="step",
    )
    if item.loads:
        click.echo()
        output.print_table(
            ["load", "started (UTC)", "table", "state", "rows", "host"],
            [
                [
                    each.load_id,
                    f"{each.started_at:%Y-%m-%d %H:%M:%S}",
                    each.table,
                    each.state,
                    f"{each.rows:,}",
                    each.host,
                ]
                for each in reversed(item.loads)
            ],
            right=["rows"],
            optional=["host", "load"],
        )
    _print_causes(list(reversed(item.attempts)))


def _step_rows(attempt: Attempt) -> Iterator[list[str]]:
    for step in attempt.steps:
        started = f"{step.started_at:%Y-%m-%d %H:%M:%S}"
        numbers = (output.duration(step.seconds), _number(step, "rows"), _number(step, "bytes"))
        yield [attempt.run_id[:8], started, step.title, step.state, *numbers, step.host]


def _number(step: StepRecord, fact: str) -> str:
    value = step.facts.get(fact)
    return f"{value:,}" if isinstance(value, int) else ""
