"""L: one of two replicas is killed (SIGKILL) before and after each step, the one that is in use or the other."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import product

from tests.support.cluster import Cluster
from tests.torture.case import Block, Case
from tests.torture.kill_points import Point
from tests.torture.site import Ground
from tests.torture.strikes import PLACES, Struck, case, nothing

_HOSTS = {"the replica in use": 0, "the other replica": 1}


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return each place before and after, with each host. Runs go on without the other; gc waits for it."""
    found = []
    for (verb, place), when, (who, number) in product(PLACES, ("before", "after"), _HOSTS.items()):
        goes_on = verb == "run" and number == 1
        struck = Struck(Point(place, 1, when), partial(_kill, number), verb, goes_on)
        found.append(case(f"{who} killed", struck))
    return found


def _kill(number: int, cluster: Cluster) -> Callable[[], object]:
    cluster.servers[number].kill()
    return nothing


BLOCK = Block("L", "a replica killed before and after each step: the one in use, or the other", cases)
