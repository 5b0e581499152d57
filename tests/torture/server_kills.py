"""C: the ClickHouse server is killed, or restarted, during inserts, around publication, and during gc."""

from __future__ import annotations

import random
import time
from functools import partial

from tests.torture.case import ONE, TWO, Block, Case, harmed
from tests.torture.commands import Ended
from tests.torture.kill_points import AtPoint, Point
from tests.torture.site import Ground, Site

COUNT = 200
_TABLES = ("raw_alerts", "raw_features", "raw_clusters", "raw_address_labels")
_POINTS = (
    *(f"load into {table}_loads" for table in _TABLES),
    *(f"count and hash {table}_loads" for table in _TABLES),
    "INSERT INTO sot_table_loads",
    "INSERT INTO sot_publications",
    "INSERT INTO sot_claims",
    "INSERT INTO sot_steps",
    "remove a directory",
)


def cases(_: Ground, chance: random.Random) -> list[Case]:
    """Return cases at statements and a moment later, every fourth a graceful restart, every tenth during gc."""
    found = []
    for number in range(COUNT):
        is_graceful, delay = number % 4 == 3, round(chance.uniform(0, 0.05), 4)
        how = "restarted" if is_graceful else "killed"
        if number % 10 == 9:
            seconds = round(chance.uniform(0, 0.8), 3)
            found.append(Case(f"{how} {seconds} s into gc", partial(_during_gc, is_graceful, seconds)))
            continue
        point = Point(_POINTS[number % len(_POINTS)], 1, chance.choice(["before", "after"]))
        name = f"{how} {delay} s from {point}"
        networks = TWO if number % 7 == 6 else ONE
        found.append(Case(name, harmed(partial(_during_run, is_graceful, point, delay)), networks))
    return found


def _during_run(is_graceful: bool, point: Point, delay: float, site: Site) -> list[Ended]:
    """Stop the server while the run stands at the point, and a moment longer; start it."""
    reached = site.file("reached")
    site.write_luigi_cfg()
    run = site.start(site.ingest("--workers", "2"), AtPoint(point, site.file("counter"), reached))
    while not reached.exists() and run.process.exitcode is None:
        time.sleep(0.002)
    time.sleep(delay)
    _stop(site, is_graceful)
    ended = site.finish(run)
    if not reached.exists():
        site.violated(0, f"the run passed the point by: exit code {ended.exit_code}")
    if ended.exit_code:
        site.check_refused(ended)
    return [ended]


def _during_gc(is_graceful: bool, seconds: float, site: Site) -> None:
    """Load twice, so that gc has something to drop; stop the server meanwhile; gc again."""
    first = site.run()
    again = site.run(site.again())
    if first.exit_code or again.exit_code:
        site.violated(0, f"exit codes {first.exit_code}, {again.exit_code} before any fault")
    site.check_rows()
    gc = ["sot-ingest", "gc", "--yes", "--keep-versions", "1"]
    collecting = site.start(gc)
    time.sleep(seconds)
    _stop(site, is_graceful)
    site.finish(collecting)
    if (ended := site.run(gc)).exit_code:
        site.violated(5, f"gc exited {ended.exit_code} when the server was back: {ended.stderr[-500:]}")
    site.check_rows()
    site.check_idle()
    site.settle()


def _stop(site: Site, is_graceful: bool) -> None:
    if is_graceful:
        site.ground.server.stop()
    else:
        site.ground.server.kill()
    site.ground.server.start()


_INSERT, _PUBLICATION = (
    Point("load into raw_features_loads", 1, "before"),
    Point("INSERT INTO sot_publications", 1, "before"),
)

BLOCK = Block(
    "C",
    "ClickHouse killed or restarted during inserts, around publication, during gc",
    cases,
    [  # a restart in an insert is one of block E's
        Case("killed in an insert", harmed(partial(_during_run, False, _INSERT, 0.01))),
        Case("killed as the run publishes", harmed(partial(_during_run, False, _PUBLICATION, 0))),
        Case("killed during gc", partial(_during_gc, False, 0.3)),
    ],
)
