"""A: SIGKILL of the run, all its processes, at named points; then a rerun."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial

from tests.torture.case import ONE, THREE, TWO, Block, Case
from tests.torture.kill_points import KillAt, Point, Recording
from tests.torture.site import Ground, Site

#: How many cases with one network, two and three; with several, two processes work at once.
COUNTS = {ONE: 150, TWO: 30, THREE: 30}

#: A run does so once a second: how often depends on how fast it is.
_BY_THE_CLOCK = "INSERT INTO sot_steps"


def cases(ground: Ground, chance: random.Random) -> list[Case]:
    """Return cases that meet every point at least once before and once after it."""
    passed = _points(ground)
    found = []
    for networks, count in COUNTS.items():
        for point in _chosen(passed, count, chance):
            kind = point.name if networks == ONE and point.when == "after" else ""
            found.append(Case(f"killed {point}, networks: {len(networks)}", partial(_run, point), networks, kind))
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
    return [_point(moment, passed[moment], chance) for moment in drawn]


def _point(moment: str, times: int, chance: random.Random) -> Point:
    when, _, name = moment.partition(" ")
    return Point(name, 1 if name == _BY_THE_CLOCK else chance.randint(1, times), when)


def _run(point: Point, site: Site) -> None:
    workers = "1" if len(site.files) == 1 else "2"
    killed = site.run(site.ingest("--workers", workers), KillAt(point, site.directory / "counter"))
    if killed.exit_code != -9:
        site.violated(0, f"the run passed the point by: exit code {killed.exit_code}")
    site.check_recovered([killed], site.run())


BLOCK = Block("A", "SIGKILL of the run at named points, for one, two and three networks", cases)
