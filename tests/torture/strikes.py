"""Commands on a cluster that is harmed while they stand at a point: what the blocks about replicas have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.support.cluster import Cluster
from tests.torture import commands
from tests.torture.case import Case
from tests.torture.commands import Ended
from tests.torture.hurry import Hurried
from tests.torture.kill_points import Point
from tests.torture.killed_runs import at, started
from tests.torture.site import DAY, Site

#: Harms the cluster; what it returns is called before the cluster is restored, and waits for the end of the harm.
Strike = Callable[[Cluster], Callable[[], object]]

#: For as long the command stands at its point: the harm is done meanwhile.
PAUSE = 0.3

GC = ["sot-ingest", "gc", "--yes", "--keep-versions", "1"]
ROLLBACK = ["sot-ingest", "rollback", "--yes", "--date", str(DAY), "--network", "torus"]

#: For faults that nobody answers: 300 seconds otherwise.
HURRIED = Hurried(clickhouse_seconds=3, insert_seconds=10)


@dataclass(frozen=True)
class Hastened:
    """What a command does to itself at a point, and shorter waits."""

    at: commands.Harm
    hurried: Hurried

    def __call__(self) -> None:
        """Take hold of this process."""
        self.hurried()
        self.at()


def nothing() -> None:
    """Wait for nothing."""


@dataclass(frozen=True)
class Struck:
    """A case: a command, a point of it, and what happens to the cluster there."""

    point: Point
    strike: Strike
    verb: str = "run"  #: or gc, rollback: on a day that was loaded twice
    goes_on: bool = False  #: the command is to succeed all the same
    hurried: Hurried | None = HURRIED

    def __call__(self, site: Site) -> None:
        """Run it, restore the cluster, run the command again, and ask all six invariants on every host."""
        command = {"run": site.ingest("--workers", "2"), "gc": GC, "rollback": ROLLBACK}[self.verb]
        if self.verb == "run":
            site.write_luigi_cfg()
        else:
            _load_twice(site)
        ended = self._struck(site, command)
        site.cluster.restore()
        if ended.exit_code and self.goes_on:
            site.violated(5, f"exit code {ended.exit_code}, another host could be asked: {ended.stderr[-1_000:]}")
        elif ended.exit_code and self.verb == "run":
            site.check_refused(ended)
        elif ended.exit_code == 1 or ended.exit_code < 0 or "Traceback" in ended.stderr:
            site.violated(5, f"{self.verb} exited {ended.exit_code}: {ended.stderr[-1_000:]}")
        if self.verb == "run":
            site.check_recovered([ended], site.run())
            return
        if self.verb == "gc" and (again := site.run(GC)).exit_code:
            site.violated(5, f"gc exited {again.exit_code} when all was back: {again.stderr[-500:]}")
        site.check_rows()
        site.check_idle()
        site.settle()

    def _struck(self, site: Site, command: list[str]) -> Ended:
        point = at(site, self.point, PAUSE)
        run = started(site, command, point, Hastened(point, self.hurried) if self.hurried else None)
        wait = self.strike(site.cluster)
        ended = site.finish(run)
        wait()
        return ended


def _load_twice(site: Site) -> None:
    for ended in (site.run(), site.run(site.again())):
        if ended.exit_code:
            site.violated(0, f"exit code {ended.exit_code} before any fault: {ended.stderr[-500:]}")
    site.check_rows()


#: Each step that a run does, one table for those of files; then the statements within that change something.
STEPS = (
    "step DownloadManifest",
    "step ValidateManifest",
    "step DownloadFile raw_features",
    "step ValidateFile raw_features",
    "step ValidateChecksum raw_features",
    "step LoadTable raw_features",
    "step LoadTable raw_alerts",
    "step AuditSnapshot",
    "step PublishSnapshot",
    "step CleanUp",
)
STATEMENTS = (
    "INSERT INTO sot_claims",
    "load into raw_features_loads",
    "count and hash raw_features_loads",
    "INSERT INTO sot_table_loads",
    "INSERT INTO sot_publications",
)
OF_GC = (
    "INSERT INTO sot_claims",
    "INSERT INTO sot_table_loads",
    "INSERT INTO sot_publications",
    "ALTER TABLE raw_features_loads",
)
OF_ROLLBACK = ("INSERT INTO sot_publications",)

#: All of them with the command that passes them.
PLACES = [
    *(("run", name) for name in (*STEPS, *STATEMENTS)),
    *(("gc", name) for name in OF_GC),
    *(("rollback", name) for name in OF_ROLLBACK),
]


def case(name: str, struck: Struck) -> Case:
    """Return a case with a name that says where it strikes."""
    verb = "" if struck.verb == "run" else f"{struck.verb}: "
    return Case(f"{verb}{name} {struck.point}", partial(struck))
