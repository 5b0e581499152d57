"""B: SIGKILL of the run at times drawn by chance, also during the recovery from an earlier kill."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

from tests.torture.case import ONE, THREE, Block, Case, harmed
from tests.torture.commands import Ended
from tests.torture.site import Ground, Site

COUNT = 200
LONGEST = 2.0  #: seconds: a run of one network takes about as long


def cases(_: Ground, chance: random.Random) -> list[Case]:
    """Return cases with one kill to four, every fifth with three networks, every third of one process alone."""
    found = []
    for number in range(COUNT):
        times = tuple(round(chance.uniform(0, LONGEST), 3) for _ in range(chance.choice([1, 1, 2, 3, 4])))
        networks, alone = (THREE if number % 5 == 4 else ONE), number % 3 == 2
        name = f"killed {'one process' if alone else ''} after {', then '.join(map(str, times))} s"
        found.append(Case(" ".join(name.split()), _case(times, alone, chance.random()), networks))
    return found


def _case(times: Sequence[float], alone: bool, chosen: float) -> Callable[[Site], None]:
    return harmed(*(partial(_kill, seconds, alone, chosen) for seconds in times))


def _kill(seconds: float, alone: bool, chosen: float, site: Site) -> list[Ended]:
    """Kill the run, or one of its processes: a worker, as the system does when memory is short, or the run itself."""
    site.write_luigi_cfg()
    run = site.start(site.ingest("--workers", "2"))
    time.sleep(seconds)
    if not alone:
        run.kill()
        return [site.finish(run)]
    import psutil  # noqa: PLC0415

    try:
        family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        family[int(chosen * len(family))].send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        pass  # over already
    return [site.finish(run)]


BLOCK = Block(
    "B",
    "SIGKILL at random times, also during recovery from a kill",
    cases,
    [
        Case("killed three times", _case((0.9, 0.5, 0.6), alone=False, chosen=0)),
        Case("one of its processes killed, twice", _case((0.8, 0.7), alone=True, chosen=0.6)),
    ],
)
