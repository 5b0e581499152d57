"""The part "many networks": their first day and a run with nothing to do, with luigid and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.memory import written
from tests.bench.rig import CACHE, SNAPSHOT
from tests.bench.versions import Comparison, Version, site
from tests.support.luigid import running_luigid

DAY = SNAPSHOT.processing_date.isoformat()
FIRST, IDLE = "the first day of {} networks, {}", "{} networks with nothing to do, {}"
HOW = ("without luigid", "with luigid")


def report(versions: list[Version], rounds: int, sizes: Sequence[int]) -> str:
    """Measure, and return the part of the page."""
    networks = [f"network_{number:03}" for number in range(max(sizes))]
    bucket = written(CACHE, "--networks", ",".join(networks), "--dates", DAY)
    found = Comparison(versions)
    cases = [(size, how) for size in sizes for how in HOW]
    for _ in range(rounds):
        for size, how in cases:
            for version in versions:
                _measure(found, version, bucket, networks[:size], how)
    return (
        f"Small snapshots from S3, {rounds} rounds, the versions in turn, each against a server that holds nothing. "
        "All figures are a network's share, except what is before the first step and after the last one.\n\n"
        + found.table({title.format(size, how): size for title in (FIRST, IDLE) for size, how in cases})
    )


def _measure(found: Comparison, version: Version, bucket: Path, networks: Sequence[str], how: str) -> None:
    with site(bucket) as made, _luigid(how) as port:
        deployment = made.deployment("first", networks, port)
        command = ("run", "--date", DAY, "--scheduler", "luigid" if port else "local")
        for title in (FIRST, IDLE):
            found.add(title.format(len(networks), how), version, made.run(version, deployment, *command))


@contextmanager
def _luigid(how: str) -> Iterator[int | None]:
    if how != "with luigid":
        yield None
        return
    with TemporaryDirectory(dir=CACHE) as name, running_luigid(Path(name)) as port:
        yield port
