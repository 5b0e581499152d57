"""M: ZooKeeper is away for a while, or a replica's session with it expires, at load, publication, claim and gc."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from functools import partial
from itertools import product

from tests.support.clickhouse import SESSION_SECONDS
from tests.support.cluster import Cluster
from tests.torture.case import Block, Case
from tests.torture.kill_points import Point
from tests.torture.site import Ground
from tests.torture.strikes import Struck, case

_PLACES = (
    ("run", "INSERT INTO sot_claims"),
    ("run", "load into raw_features_loads"),
    ("run", "INSERT INTO sot_publications"),
    ("gc", "ALTER TABLE raw_features_loads"),
)
_HOSTS = {"the replica in use": 0, "the other replica": 1}


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return each place before and after, with each outage."""
    strikes = {
        **{f"ZooKeeper killed, back after {seconds} s,": partial(_away, seconds) for seconds in (2, 20)},
        **{f"the session of {who} expires": partial(_expired, number) for who, number in _HOSTS.items()},
    }
    return [
        case(name, Struck(Point(place, 1, when), strike, verb, hurried=None))
        for (verb, place), when, (name, strike) in product(_PLACES, ("before", "after"), strikes.items())
    ]


def _away(seconds: float, cluster: Cluster) -> Callable[[], object]:
    cluster.zookeeper.kill()
    return _later(seconds, cluster.zookeeper.start)


def _expired(number: int, cluster: Cluster) -> Callable[[], object]:
    """Stop a replica for longer than its session lasts without a word of it."""
    server = cluster.servers[number]
    server.send_signal(signal.SIGSTOP)
    return _later(SESSION_SECONDS + 2, partial(server.send_signal, signal.SIGCONT))


def _later(seconds: float, act: Callable[[], object]) -> Callable[[], object]:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer.join


BLOCK = Block(
    "M", "ZooKeeper away for 2 s and 20 s, and a session that expires, at claim, load, publication, gc", cases
)
