"""The command behind ``scripts/bench``."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from tests.bench import auditing, growth, idle, loading, page, profile, readers
from tests.bench.rig import CACHE, QUICK, Files
from tests.bench.ways import WAYS

FEATURES, ROUNDS, QUICK_ROUNDS = 1_000_000, 5, 2
PARTS = ("loading", "profile", "audits", "idle", "readers", "growth")


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help=f"A {QUICK}th of the rows, {QUICK_ROUNDS} rounds: does it all still work?")
@click.option("--rounds", type=click.IntRange(1), help=f"Of each measurement.  [default: {ROUNDS}]")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Parts to measure.  [default: all]")
@click.option("--way", type=click.Choice(list(WAYS)), multiple=True, help="Ways of loading.  [default: all]")
@click.option("--write", is_flag=True, help="Write what was found into docs/performance.md.")
def main(quick: bool, rounds: int | None, only: tuple[str, ...], way: tuple[str, ...], write: bool) -> None:
    """Measure, print each part when it is done, and write it into the page when asked to."""
    CACHE.mkdir(parents=True, exist_ok=True)
    features, times = FEATURES // (QUICK if quick else 1), rounds or (QUICK_ROUNDS if quick else ROUNDS)
    files = Files.of(features)

    def of_loading() -> str:
        return loading.report(loading.measure(files, times, way or WAYS), files)

    parts: dict[str, Callable[[], str]] = {
        "loading": of_loading,
        "profile": lambda: profile.report(files, times),
        "audits": lambda: auditing.report(features, times),
        "idle": lambda: idle.report(times),
        "readers": lambda: readers.report(files),
        "growth": lambda: growth.report(features, times, write=write),
    }
    circumstances = page.circumstances(" ".join(["./scripts/bench", *sys.argv[1:]]))
    for part in only or PARTS:
        text = f"{circumstances}\n\n{parts[part]()}"
        click.echo(f"## {part}\n\n{text}\n")
        if write:
            page.write(part, text)


if __name__ == "__main__":
    main()
