"""F: operation: several runs, signals, a process killed for memory, luigid gone, full disks, clocks that jump."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil

from tests.support.luigid import running_luigid
from tests.torture.case import THREE, Block, Case, Harm, harmed
from tests.torture.commands import Ended
from tests.torture.kill_points import KillAt, Point
from tests.torture.killed_runs import AT_ONCE, KILLED, QUICK, at, check_publications, other_host, started
from tests.torture.site import DAY, Ground, Site

_LOAD = Point("load into raw_features_loads", 1, "before")
_DOWNLOAD = Point("write a part", 5, "after")  #: the first of the four files, after the manifest and three proofs
_PUBLISH = Point("INSERT INTO sot_publications", 1, "before")
_BUSY = {0, 10}  #: what a run may say that found another at work


def _at_once(site: Site, *, same_host: bool) -> None:
    """Start two; either may leave a snapshot to the other."""
    first, second = site.start(site.ingest()), (site if same_host else other_host(site)).start(site.ingest())
    ended = [site.finish(first), site.finish(second)]
    left_all = len(site.files) == 1 and all(run.exit_code for run in ended)
    if not {run.exit_code for run in ended} <= _BUSY or left_all:
        site.violated(5, f"exit codes {[run.exit_code for run in ended]}: {ended[0].stderr[-400:]}")
    check_publications(site, 1)
    site.check_recovered(ended if same_host else [], site.run())


def _overlapping(site: Site) -> None:
    """Let the 3 AM run start while that of 1 AM stands in a load."""
    first = started(site, site.ingest(), at(site, _LOAD, pause=2))
    second = site.run()
    ended = site.finish(first)
    if ended.exit_code != 0 or second.exit_code not in _BUSY:
        site.violated(5, f"exit codes {ended.exit_code}, {second.exit_code}")
    check_publications(site, 1)
    site.check_recovered([ended], site.run())


def _signalled(number: signal.Signals, point: Point, site: Site) -> list[Ended]:
    """Send the run a signal at a point; it clears up, says so, and its exit code is the signal's."""
    before = _parts(site)
    site.write_luigi_cfg()
    run = started(site, site.ingest("--workers", "2"), at(site, point))
    run.signal(number)
    ended = site.finish(run, 30)
    if ended.exit_code not in {128 + number, 0}:  # 0: it came after the last step
        site.violated(5, f"exit code {ended.exit_code}: {ended.stderr[-400:]}")
    if "Traceback" in ended.stderr:
        site.violated(5, f"a traceback: {ended.stderr[-1_000:]}")
    if left := _parts(site) - before:
        site.violated(2, f"left {left}")
    return [ended]


def _parts(site: Site) -> set[Path]:
    return set(site.work.rglob("*.part"))


def _frozen(point: Point, site: Site) -> None:
    """Freeze a run, let another host do the work, and let the first go on: it must not change what is published."""
    site.write_luigi_cfg()
    run = started(site, site.ingest("--workers", "2"), at(site, point, pause=1))
    run.signal(signal.SIGSTOP, group=True)
    _expire_claims(site)
    other = other_host(site).run()
    site.check_rows()
    run.signal(signal.SIGCONT, group=True)
    ended = site.finish(run)
    if other.exit_code != 0:
        site.violated(5, f"the other host exited {other.exit_code}: {other.stderr[-400:]}")
    if ended.exit_code < 0:
        site.violated(5, f"the frozen run ended with {ended.exit_code}")
    check_publications(site, 1)
    site.check_recovered([], site.run())


def _expire_claims(site: Site) -> None:
    """Let the time of every claim be over, as minutes would: they last two."""
    database = site.database("torus")
    site.ground.server.http(
        f"ALTER TABLE {database}.sot_claims UPDATE until = now64(6) - INTERVAL 1 SECOND WHERE 1 "
        "SETTINGS mutations_sync = 1"
    )


def _worker_killed(point: Point, site: Site) -> list[Ended]:
    """Kill the process of one step; the run says that a step failed."""
    site.write_luigi_cfg()
    run = started(site, site.ingest(), at(site, point, pause=2))
    for child in psutil.Process(run.pid).children(recursive=True):
        child.kill()
    ended = site.finish(run)
    if ended.exit_code in {0, 1} or ended.exit_code < 0:
        site.violated(5, f"exit code {ended.exit_code}: {ended.stderr[-400:]}")
    return [ended]


def _luigid_gone(site: Site) -> None:
    """End luigid while a run stands in a load, and start it again at its port when the run is over."""
    with running_luigid(site.directory / "luigid") as port:
        site.write_luigi_cfg(port)
        run = started(site, site.ingest("--scheduler", "auto"), at(site, _LOAD, pause=2))
    ended = site.finish(run)
    if ended.exit_code == 1 or ended.exit_code < 0:
        site.violated(5, f"exit code {ended.exit_code}: {ended.stderr[-400:]}")
    with running_luigid(site.directory / "luigid", port):
        site.check_recovered([ended], site.run(site.ingest("--scheduler", "luigid")))


@dataclass(frozen=True)
class _NoSpace:
    """Makes every write of a file with this name fail, as a full disk does."""

    name: str

    def __call__(self) -> None:
        """Take hold of this process."""
        before = os.fsync

        def fsync(handle: int) -> None:
            if self.name in str(Path(f"/proc/self/fd/{handle}").readlink()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            before(handle)

        setattr(os, "fsync", fsync)  # noqa: B010  # to mypy another function


def _no_space(name: str, site: Site) -> list[Ended]:
    """Let a disk be full."""
    before = _parts(site)  # what was killed before leaves one
    ended = site.run(harm=_NoSpace(name))
    site.check_refused(ended, file=name)
    if left := _parts(site) - before:
        site.violated(2, f"left {left}")
    return [ended]


def _read_only(site: Site) -> list[Ended]:
    """Put a file where a directory of the work directory would be: a mode says nothing to root."""
    site.work.mkdir()
    (site.work / "locks").touch(mode=stat.S_IRUSR)
    ended = site.run()
    if ended.exit_code in {0, 1} or "WORK_PATH" not in ended.stderr:
        site.violated(5, f"exit code {ended.exit_code}: {ended.stderr[-400:]}")
    (site.work / "locks").unlink()
    return [ended]


@dataclass(frozen=True)
class _Clock:
    """Sets the clock of a process, as far as Python asks it."""

    ahead: timedelta

    def __call__(self) -> None:
        """Take hold of this process."""
        import time_machine  # noqa: PLC0415  # in the command's process alone

        time_machine.travel(time.time() + self.ahead.total_seconds(), tick=True).start()


def _clock(ahead: timedelta, site: Site) -> None:
    """Kill the run in a load, then rerun with another clock; the third has the first one's again."""
    killed = site.run(harm=KillAt(_LOAD, site.file("counter")))
    site.check_recovered([killed], site.run(harm=_Clock(ahead)))


def _future(site: Site) -> list[Ended]:
    """Ask for a day that has not been: refused at once, or not at the source yet."""
    ended = site.run(["sot-ingest", "run", "--date", str(DAY + timedelta(days=3_650)), "--network", "torus"])
    if ended.exit_code not in {2, 20}:
        site.violated(5, f"exit code {ended.exit_code}: {ended.stderr[-400:]}")
    return [ended]


#: Cases whose harm is not an end of a run before its time.
_WHOLE = (
    Case("two runs at once on two hosts", partial(_at_once, same_host=False)),
    Case("two runs of three networks at once", partial(_at_once, same_host=True), THREE),
    Case("the 3 AM run overlaps the one of 1 AM", _overlapping),
    Case("stopped (SIGSTOP) before it publishes, another host meanwhile, then CONT", partial(_frozen, _PUBLISH)),
    Case("the clock jumps forward an hour before the rerun", partial(_clock, timedelta(hours=1))),
    Case("the clock jumps back an hour before the rerun", partial(_clock, timedelta(hours=-1))),
)
_MORE = (
    Case("two runs at once on one host", partial(_at_once, same_host=True)),
    Case(
        "stopped (SIGSTOP) in a load for longer than a claim lasts, another host meanwhile, then CONT",
        partial(_frozen, _LOAD),
    ),
    Case("luigid gone in the middle of a run, and back", _luigid_gone),  # see tests/system/test_luigid.py
)

#: What ends a run, in the order of what it stands in: one can follow upon the other.
_SIGNALLED: Mapping[signal.Signals, Mapping[str, Harm]] = {
    number: {
        f"{number.name} to the run {point}": partial(_signalled, number, point)
        for point in (_DOWNLOAD, _LOAD, _PUBLISH)
    }
    for number in (signal.SIGTERM, signal.SIGINT)
}
_BROKEN: Mapping[str, Harm] = {
    "a work directory that cannot be written": _read_only,
    "a date in the future": _future,
    "no space left when META.json is written": partial(_no_space, "META.json"),
    "a worker killed in a download, as for memory": partial(_worker_killed, _DOWNLOAD),
    "no space left when a file is written": partial(_no_space, "raw_features.parquet"),
    "no space left when a proof is written": partial(_no_space, "validate-checksum-raw_features"),
    "a worker killed in a load, as for memory": partial(_worker_killed, _LOAD),
}


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return the cases."""
    return [
        *_WHOLE,
        *_MORE,
        *(Case(name, harmed(harm)) for harms in _SIGNALLED.values() for name, harm in harms.items()),
        *(Case(name, harmed(harm)) for name, harm in _BROKEN.items()),
        *KILLED,
        *AT_ONCE,
    ]


BLOCK = Block(
    "F",
    "operation: runs at once, signals, killed workers, luigid gone, full disks, clocks",
    cases,
    [
        *_WHOLE,
        *(Case(f"{number.name} at each point", harmed(*harms.values())) for number, harms in _SIGNALLED.items()),
        Case("each failure of the host, one after the other", harmed(*_BROKEN.values())),
        *QUICK,
    ],
)
