"""The command behind ``scripts/bench``."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from tests.bench import auditing, growth, history, idle, loading, networks, page, profile, readers, small
from tests.bench.rig import CACHE, QUICK, Files
from tests.bench.versions import versions
from tests.bench.ways import WAYS

FEATURES, ROUNDS, QUICK_ROUNDS = 1_000_000, 5, 2
SNAPSHOTS, NETWORKS = 585, (1, 10, 100)
PARTS = ("loading", "profile", "small", "networks", "audits", "idle", "readers", "history", "growth")


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help=f"A {QUICK}th of the rows, {QUICK_ROUNDS} rounds: does it all still work?")
@click.option("--rounds", type=click.IntRange(1), help=f"Of each measurement.  [default: {ROUNDS}]")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Parts to measure.  [default: all]")
@click.option("--way", type=click.Choice(list(WAYS)), multiple=True, help="Ways of loading.  [default: all]")
@click.option("--against", help="A directory or commit that small snapshots and networks are measured with as well.")
@click.option("--snapshots", type=click.IntRange(3), help=f"Of the backfill of small ones.  [default: {SNAPSHOTS}]")
@click.option("--networks", "sizes", type=click.IntRange(1), multiple=True, help=f"[default: {NETWORKS}]")
@click.option("--write", is_flag=True, help="Write what was found into docs/performance.md.")
def main(
    quick: bool,
    rounds: int | None,
    only: tuple[str, ...],
    way: tuple[str, ...],
    against: str | None,
    snapshots: int | None,
    sizes: tuple[int, ...],
    write: bool,
) -> None:
    """Measure, print each part when it is done, and write it into the page when asked to."""
    CACHE.mkdir(parents=True, exist_ok=True)
    features, times = FEATURES // (QUICK if quick else 1), rounds or (QUICK_ROUNDS if quick else ROUNDS)
    compared = versions(against)
    many, of_networks = snapshots or SNAPSHOTS // (QUICK if quick else 1), sizes or NETWORKS[: 2 if quick else None]

    def files() -> Files:
        return Files.of(features)

    def of_loading() -> str:
        return loading.report(loading.measure(files(), times, way or WAYS), files())

    parts: dict[str, Callable[[], str]] = {
        "loading": of_loading,
        "profile": lambda: profile.report(files(), times),
        "small": lambda: small.report(compared, times, many),
        "networks": lambda: networks.report(compared, times, of_networks),
        "audits": lambda: auditing.report(features, times),
        "idle": lambda: idle.report(times),
        "readers": lambda: readers.report(files()),
        "history": lambda: history.report(features // 10),
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
