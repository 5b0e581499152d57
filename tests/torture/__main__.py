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
from tests.torture.blocks import BLOCKS
from tests.torture.case import Outcome

PAGE = ROOT / "docs" / "reliability.md"


def main() -> None:
    """Run the command."""
    torture()


@click.command(help="Do harm to the pipeline by the hundred, and ask an oracle after each case.")
@click.option("--seed", default=1, show_default=True, help="What is drawn by chance.")
@click.option("--blocks", default=",".join(block.letter for block in BLOCKS), show_default=True, help="Kinds of harm.")
@click.option("--case", "chosen", multiple=True, help="A case alone, such as A17; repeatable.")
@click.option("--workers", default=os.cpu_count() or 2, show_default=True, help="Cases at once.")
@click.option("--minutes", default=120.0, show_default=True, help="After which no case begins any more.")
@click.option("--again", is_flag=True, help="Run those cases, too, that were run with this version of the pipeline.")
@click.option("--write", is_flag=True, help="Write what was found into docs/reliability.md.")
def torture(
    seed: int, blocks: str, chosen: tuple[str, ...], workers: int, minutes: float, again: bool, write: bool
) -> None:
    """Run cases, a line each, and print a table; exit with 1 when an invariant was violated."""
    letters = "".join(sorted({name[0] for name in chosen})) or "".join(blocks.split(","))
    if unknown := set(letters) - {block.letter for block in BLOCKS}:
        raise click.BadParameter(f"no block {', '.join(sorted(unknown))}")
    results, started = runner.Results.of(seed), time.monotonic()
    cases = runner.Campaign(seed, letters, results, _tell, minutes).run(chosen, workers, again=again)
    found = {name: results.outcomes[name] for name in cases if name in results.outcomes}
    text = _table(found, cases, seed)
    click.echo(f"\n{text}\n\n{time.monotonic() - started:.0f} s")
    if write:
        circumstances = pages.circumstances(f"./scripts/torture --seed {seed} --write")
        pages.write(PAGE, "results", f"{circumstances}\n\n{text}", "scripts/torture")
    sys.exit(any(outcome.violations for outcome in found.values()))


def _tell(outcome: Outcome) -> None:
    click.echo(f"{outcome.case:<5} {outcome.seconds:6.1f} s  {outcome.name}")
    for violation in outcome.violations:
        click.echo(f"      VIOLATED {violation}")


def _table(found: Mapping[str, Outcome], cases: Sequence[str], seed: int) -> str:
    rows = []
    for block in BLOCKS:
        outcomes = [outcome for name, outcome in found.items() if name[0] == block.letter]
        left = sum(name[0] == block.letter for name in cases) - len(outcomes)
        if not outcomes and not left:
            continue  # not asked for
        count = f"{sum(one.examples for one in outcomes):,}{f' ({left} not run)' if left else ''}"
        looks, violated = sum(one.looks for one in outcomes), sum(bool(one.violations) for one in outcomes)
        repeat = f"`./scripts/torture --seed {seed} --blocks {block.letter}`"
        rows.append((block.letter, block.title, count, f"{looks:,}", str(violated), repeat))
    return pages.table(("block", "what", "cases", "looks of readers", "violations", "to repeat"), rows)


if __name__ == "__main__":
    main()
