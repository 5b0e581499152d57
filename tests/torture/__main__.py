"""The command behind ``scripts/torture``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence

import click

from tests.support import pages
from tests.support.clickhouse import ROOT
from tests.torture import runner
from tests.torture.blocks import BLOCKS, CLUSTER_BLOCKS
from tests.torture.case import Block, Outcome

PAGE = ROOT / "docs" / "reliability.md"


def main() -> None:
    """Run the command."""
    torture()


def _letters(blocks: Sequence[Block]) -> str:
    return ",".join(block.letter for block in blocks)


@click.command(help="Do harm to the pipeline by the hundred, and ask an oracle after each case.")
@click.option("--cluster", is_flag=True, help="To replicas with a ZooKeeper instead of one server; needs Java.")
@click.option("--seed", default=1, show_default=True, help="What is drawn by chance.")
@click.option(
    "--blocks", help=f"Kinds of harm.  [default: {_letters(BLOCKS)}; with --cluster {_letters(CLUSTER_BLOCKS)}]"
)
@click.option("--case", "chosen", multiple=True, help="A case alone, such as A17; repeatable.")
@click.option("--workers", default=os.cpu_count() or 2, show_default=True, help="Cases at once.")
@click.option("--minutes", default=120.0, show_default=True, help="After which no case begins any more.")
@click.option("--rivals", default=10.0, show_default=True, help="Minutes of block O's case.")
@click.option("--again", is_flag=True, help="Run those cases, too, that were run with this version of the pipeline.")
@click.option("--write", is_flag=True, help="Write what was found into docs/reliability.md.")
def torture(
    cluster: bool,
    seed: int,
    blocks: str | None,
    chosen: tuple[str, ...],
    workers: int,
    minutes: float,
    rivals: float,
    again: bool,
    write: bool,
) -> None:
    """Run cases, a line each, and print a table; exit with 1 when an invariant was violated."""
    known = CLUSTER_BLOCKS if cluster else BLOCKS
    letters = "".join(sorted({name[0] for name in chosen}) or (blocks or _letters(known)).split(","))
    if unknown := set(letters) - {block.letter for block in known}:
        raise click.BadParameter(f"no block {', '.join(sorted(unknown))}{'' if cluster else ' without --cluster'}")
    results, started = runner.Results.of(seed), time.monotonic()
    cases = runner.Campaign(seed, letters, results, _tell, minutes, rivals * 60).run(chosen, workers, again=again)
    found = {name: results.outcomes[name] for name in cases if name in results.outcomes}
    command = f"./scripts/torture{' --cluster' if cluster else ''} --seed {seed}"
    text = _table(known, found, cases, command)
    click.echo(f"\n{text}\n\n{time.monotonic() - started:.0f} s")
    if write:
        part = "cluster results" if cluster else "results"
        pages.write(PAGE, part, f"{pages.circumstances(f'{command} --write')}\n\n{text}", "scripts/torture")
    sys.exit(any(outcome.violations for outcome in found.values()))


def _tell(outcome: Outcome) -> None:
    click.echo(f"{outcome.case:<5} {outcome.seconds:6.1f} s  {outcome.name}")
    for violation in outcome.violations:
        click.echo(f"      VIOLATED {violation}")


def _table(blocks: Sequence[Block], found: Mapping[str, Outcome], cases: Sequence[str], command: str) -> str:
    rows = []
    for block in blocks:
        outcomes = [outcome for name, outcome in found.items() if name[0] == block.letter]
        left = sum(name[0] == block.letter for name in cases) - len(outcomes)
        if not outcomes and not left:
            continue  # not asked for
        count = f"{sum(one.examples for one in outcomes):,}{f' ({left} not run)' if left else ''}"
        looks, violated = sum(one.looks for one in outcomes), sum(bool(one.violations) for one in outcomes)
        repeat = f"`{command} --blocks {block.letter}`"
        rows.append((block.letter, block.title, count, f"{looks:,}", str(violated), repeat))
    return pages.table(("block", "what", "cases", "looks of readers", "violations", "to repeat"), rows)


if __name__ == "__main__":
    main()
