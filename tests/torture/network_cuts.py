"""N: the network is cut between the pipeline and a replica, between the replicas, or between one and ZooKeeper."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import product

from tests.support.cluster import Cluster
from tests.torture.case import Block, Case
from tests.torture.kill_points import Point
from tests.torture.site import Ground
from tests.torture.strikes import Struck, case, nothing

_POINTS = (
    ("run", Point("INSERT INTO sot_claims", 1, "before")),
    ("run", Point("load into raw_features_loads", 1, "before")),
    ("run", Point("INSERT INTO sot_publications", 1, "before")),
    ("run", Point("INSERT INTO sot_publications", 1, "after")),
    ("run", Point("step CleanUp", 1, "before")),
    ("gc", Point("ALTER TABLE raw_features_loads", 1, "before")),
)

#: Which wires of which host.
_CUTS = {
    "pipeline and the replica in use": (0, ("native", "http")),
    "pipeline and the other replica": (1, ("native", "http")),
    "the replicas": (0, ("exchange",)),
    "the replica in use and ZooKeeper": (0, ("keeper",)),
    "the other replica and ZooKeeper": (1, ("keeper",)),
}


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return each point with each cut, which lasts until the command has ended."""
    return [
        case(f"cut between {name}", Struck(point, partial(_cut, *cut), verb))
        for (verb, point), (name, cut) in product(_POINTS, _CUTS.items())
    ]


def _cut(number: int, wires: tuple[str, ...], cluster: Cluster) -> Callable[[], object]:
    for wire in wires:
        getattr(cluster.hosts[number], wire).cut()
    return nothing


BLOCK = Block("N", "the network cut between pipeline, replicas and ZooKeeper, until the command ends", cases)
