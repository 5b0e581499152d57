"""A: SIGKILL of the run, all its processes, at named points; then a rerun."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial

from tests.torture.case import ONE, THREE, TWO, Block, Case, harmed
from tests.torture.commands import Ended
from tests.torture.defect import FEATURES
from tests.torture.kill_points import KillAt, Point, Recording
from tests.torture.oracle import COLUMNS
from tests.torture.site import Ground, Site

#: How many cases with one network, two and three; with several, two processes work at once.
COUNTS = {ONE: 150, TWO: 30, THREE: 30}

#: A run writes there once a second, and makes the table then: how often, and before what, depends on how fast it is.
_BY_THE_CLOCK = " sot_steps"

_OTHERS = tuple(f"{table}{loads}" for table in COLUMNS if table != FEATURES for loads in ("", "_loads"))


def cases(ground: Ground, chance: random.Random) -> list[Case]:
    """Return cases that meet every point at least once before and once after it."""
    passed = _points(ground)
    found = []
    for networks, count in COUNTS.items():
        found += [
            Case(f"killed {point}, networks: {len(networks)}", harmed(partial(_kill, point)), networks)
            for point in _chosen(passed, count, chance)
        ]
    return found


def _points(ground: Ground) -> Counter[str]:
    """Record how often a run of one network passes each point: its name after the word before or after."""
    with ground.site(ONE) as site:
        ended = site.run(site.ingest("--workers", "1"), Recording(site.directory / "points"))
        if ended.exit_code:
            raise RuntimeError(ended.stderr)
        return Counter((site.directory / "points").read_text("utf-8").splitlines())


def _chosen(passed: Counter[str], count: int, chance: random.Random) -> Sequence[Point]:
    """Return each point once before and after it, at an occurrence drawn by chance, then more drawn by chance."""
    moments = sorted(passed)
    chance.shuffle(moments)
    drawn = (moments * (count // len(moments) + 1))[:count]
    return [
        _point(moment, 1 if moment.endswith(_BY_THE_CLOCK) else chance.randint(1, passed[moment])) for moment in drawn
    ]


def _point(moment: str, occurrence: int) -> Point:
    when, _, name = moment.partition(" ")
    return Point(name, occurrence, when)


def _kill(point: Point, site: Site) -> list[Ended]:
    workers = "1" if len(site.files) == 1 else "2"
    if workers != "1":
        site.write_luigi_cfg()
    killed = site.run(site.ingest("--workers", workers), KillAt(point, site.file("counter")))
    if killed.exit_code != -9:
        site.violated(0, f"the run passed {point} by: exit code {killed.exit_code}")
    return [killed]


def _at_each_point(site: Site) -> None:
    """Kill a run where it first comes to a point, the rerun where that first comes to the next one, and so on.

    Only after each: before a point all is as it was after the one before it. Of the four tables one alone: the others
    come in any order, and are loaded when the last one is killed.
    """
    passed = [moment for moment in _points(site.ground) if not moment.endswith((*_OTHERS, _BY_THE_CLOCK))]
    harmed(*(partial(_kill, _point(moment, 1)) for moment in passed if moment.startswith("after")))(site)


BLOCK = Block(
    "A",
    "SIGKILL of the run at named points, for one, two and three networks",
    cases,
    [Case("killed after each point, one after the other", _at_each_point)],
)
