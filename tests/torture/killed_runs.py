"""The same command at once after one that was killed, and two commands at once: with luigid, without, on two hosts."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import combinations_with_replacement, product

from tests.support.clickhouse import ClickHouseError
from tests.support.luigid import running_luigid
from tests.torture.case import Case
from tests.torture.commands import SECONDS, Command, Harm
from tests.torture.events import events
from tests.torture.kill_points import AtPoint, Point
from tests.torture.site import DAY, Site

LIMIT = 60.0  #: seconds that the command after a kill may take
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

#: From the first moments of a run to the last.
POINTS = (
    Point("lock a snapshot", 1, "after"),
    Point("INSERT INTO sot_claims", 1, "after"),
    Point("write a part", 1, "before"),
    Point("write a part", 5, "after"),
    Point("rename", 9, "after"),
    Point("load into raw_features_loads", 1, "before"),
    Point("load into raw_alerts_loads", 1, "after"),
    Point("INSERT INTO sot_publications", 1, "before"),
    Point("INSERT INTO sot_publications", 1, "after"),
    Point("remove a directory", 1, "before"),
)

#: What is so around a kill; in each but the first a luigid is asked.
CIRCUMSTANCES = (
    "no luigid",
    "luigid",
    "luigid restarted",
    "luigid restarted without its state",
    "then on another host",
)

COMMANDS = ("run", "luigi", "rerun", "backfill", "gc")


def command(name: str, *, luigid: bool) -> list[str]:
    """Return one of the commands, about a site of one network."""
    day, network = str(DAY), ["--network", "torus"]
    if name == "luigi":
        task = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", *network, "--processing-date", day]
        return [*task, "--workers", "2", *([] if luigid else ["--local-scheduler"])]
    if name == "gc":
        return ["sot-ingest", "gc", "--yes"]
    days = ["--from", day, "--to", day] if name == "backfill" else ["--date", day]
    again = ["--yes"] if name == "rerun" else []
    return ["sot-ingest", name, *days, *network, *again, "--scheduler", "luigid" if luigid else "local"]


def other_host(site: Site) -> Site:
    """Return the same deployment with another work directory, as on another host."""
    directory = site.directory / "other"
    directory.mkdir(exist_ok=True)
    return replace(site, directory=directory, violations=site.violations)


def at(site: Site, point: Point, pause: float = 0.0) -> AtPoint:
    """Return what tells that a run has come to a point."""
    return AtPoint(point, site.file("counter"), site.file("reached"), pause)


def started(site: Site, argv: Sequence[str], point: AtPoint, harm: Harm | None = None) -> Command:
    """Return the run of a command when it has come to a point; what else is done to it does that, too."""
    run = site.start(argv, harm or point)
    deadline = time.monotonic() + SECONDS
    while not point.reached.exists() and run.process.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.005)
    if not point.reached.exists():
        site.violated(0, f"the run did not come to {point.point}: {run.log[-1_000:]}")
    return run


def check_publications(site: Site, count: int) -> None:
    """Two publications of one manifest would be one too many."""
    for network in site.files:
        query = f"SELECT count() FROM {site.database(network)}.sot_publications"
        if (found := int(site.ground.server.http(query))) != count:
            site.violated(1, f"{network}: {found} publications, expected {count}")


def _ask(port: int, *sites: Site) -> None:
    """Let luigi.cfg of these sites name a luigid."""
    for site in sites:
        site.write_luigi_cfg(port)


def _killed(number: signal.Signals, point: Point, circumstance: str, name: str, site: Site) -> None:
    """Send a run a signal at a point, and at once start the same command: it is to bring everything, and soon."""
    again = other_host(site) if circumstance == CIRCUMSTANCES[-1] else site
    argv, directory = command(name, luigid=circumstance != CIRCUMSTANCES[0]), site.directory / "luigid"
    site.write_luigi_cfg()
    with ExitStack() as scheduler:
        if circumstance != CIRCUMSTANCES[0]:
            port = scheduler.enter_context(running_luigid(directory))
            _ask(port, site, again)
        run = started(site, argv, at(site, point))
        run.signal(number)
        if number != signal.SIGKILL:
            site.finish(run, 30)
        if "restarted" in circumstance:
            scheduler.close()
            if "without" in circumstance:
                (directory / "state.pickle").unlink(missing_ok=True)
            scheduler.enter_context(running_luigid(directory, port))
        began = time.monotonic()
        ended = again.run(argv)
        seconds = time.monotonic() - began
    if ended.exit_code or seconds > LIMIT:
        site.violated(5, f"exit code {ended.exit_code} after {seconds:.0f} s: {ended.stderr[-2_000:]}")
    if number == signal.SIGKILL:
        site.finish(run, 30)
    if any("Traceback" in each.stderr for each in site.ended):
        site.violated(5, f"a traceback: {[each.stderr[-1_000:] for each in site.ended]}")
    check_publications(site, 1)
    site.check_recovered([], site.run() if again is not site else ended)


def _at_once(first: str, second: str, site: Site, *, same_deployment: bool) -> None:
    """Start two commands: each does its work, or says by its exit code that the other one does."""
    other = site if same_deployment else other_host(site)
    with running_luigid(site.directory / "luigid") as port:
        _ask(port, site, other)
        runs = [where.start(command(name, luigid=True)) for where, name in ((site, first), (other, second))]
        ended = [site.finish(run) for run in runs]
    for name, run in zip((first, second), ended, strict=True):
        if run.exit_code not in ({0} if name == "gc" else {0, 10}) or "Traceback" in run.stderr + run.stdout:
            site.violated(5, f"{name}: exit code {run.exit_code}: {run.stderr[-2_000:]}")
    if all(run.exit_code for run in ended):
        site.violated(5, f"neither did the work: {[run.stderr[-1_000:] for run in ended]}")
    published = [each for run in ended for each in events(run.stderr) if each["message"] == "Published snapshot"]
    if {first, second} != {"gc"}:
        check_publications(site, len([each for each in published if "by_another_run" not in each]))
        _check_claims(site)
    other.run()
    site.check_recovered([], site.run())


def _check_claims(site: Site) -> None:
    """Check that each claim was released by its run, and none taken from a run that had it."""
    query = (
        "SELECT countIf(released AND run_id != before), countIf(run_id != before AND claimed_at < ended) FROM ("
        "SELECT number, run_id, claimed_at, until <= claimed_at AS released, "
        "lagInFrame(run_id, 1, run_id) OVER w AS before, lagInFrame(until) OVER w AS ended "
        f"FROM {site.database('torus')}.sot_claims WINDOW w AS (ORDER BY number))"
    )
    try:
        if (found := site.ground.server.http(query).strip()) != "0\t0":
            site.violated(1, f"claims that another run released, and took: {found}")
    except ClickHouseError as error:
        site.violated(0, str(error))


#: Every signal at every point in every circumstance; the commands take turns.
KILLED = [
    Case(
        f"{number.name} to `{name}` {point}, {circumstance}, and the same command at once",
        partial(_killed, number, point, circumstance, name),
    )
    for turn, (number, point, circumstance) in enumerate(product(SIGNALS, POINTS, CIRCUMSTANCES))
    for name in [COMMANDS[turn % 2]]
]

AT_ONCE = [
    Case(
        f"`{first}` and `{second}` at once, of {'one deployment' if same else 'two deployments'}",
        partial(_at_once, first, second, same_deployment=same),
    )
    for (first, second), same in product(combinations_with_replacement(COMMANDS, 2), (True, False))
]

#: Five of the first and two of the second: each signal, circumstance and command.
QUICK = [*KILLED[6::29], *AT_ONCE[1::20]]
