"""P: what operators run, on two replicas, and what is said of one that is behind, away or read-only."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tests.support.clickhouse import SESSION_SECONDS
from tests.support.luigid import running_luigid
from tests.torture import losses, oracle
from tests.torture.case import Block, Case
from tests.torture.commands import Ended
from tests.torture.killed_runs import command
from tests.torture.site import DAY, Ground, Site
from tests.torture.strikes import GC, ROLLBACK

_OF_DAY = ["--date", str(DAY), "--network", "torus"]
_STATUS = ["sot-ingest", "status", "--date", str(DAY), "--days", "1"]
_CHECK = ["sot-ingest", "check", "--max-age", "1000000h"]
_VERIFY = ["sot-ingest", "verify", *_OF_DAY]
_REPORT = ["sot-ingest", "report", "--html", "-", "--days", "3660"]
_DOCTOR = ["sot-ingest", "doctor"]
_ACCEPT = ["sot-ingest", "accept", *_OF_DAY, "--reason", "a quiet day"]

#: Holds every day that the demonstration makes.
_AUDIT = """\
-- Fewer rows than there are.
-- level: hold
-- message: {table} has {rows} rows
SELECT table, rows, rows > 0 AS wrong FROM {row_counts} WHERE table = 'raw_alerts'
"""


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return the commands in turn, then what is said of replicas that are not as they should be."""
    return [
        Case("each command that publishes or removes, one after the other, with luigid and without", _in_turn),
        Case("in a database of engine Replicated, a replica killed in between", _replicated_database),
        Case("a replica that is behind is named by status, check, verify, report and doctor", _behind),
        *(Case(f"doctor: {name}", partial(_examined, ailment)) for name, ailment in _AILMENTS.items()),
        *losses.CASES,
    ]


def _succeeds(site: Site, argv: Sequence[str], exit_code: int = 0) -> Ended:
    ended = site.run(argv)
    if ended.exit_code != exit_code:
        site.violated(5, f"{argv[:2]} exited {ended.exit_code}, not {exit_code}: {ended.stdout}{ended.stderr[-800:]}")
    return ended


def _in_turn(site: Site) -> None:
    """Readers of both hosts see the day's rows after each command."""
    with running_luigid(site.directory / "luigid") as port:
        site.write_luigi_cfg(port)
        for argv in (
            command("luigi", luigid=True),
            command("run", luigid=True),
            command("rerun", luigid=True),
            command("backfill", luigid=True),
            ROLLBACK,
            command("rerun", luigid=False),
            GC,
        ):
            _succeeds(site, argv)
            site.check_rows()
    audits = site.directory / "audits"
    audits.mkdir()
    (audits / "held.sql").write_text(_AUDIT, "utf-8")
    site.variables["INGESTION_AUDITS_PATH"] = str(audits)
    _succeeds(site, site.again(), 30)
    _succeeds(site, _ACCEPT)
    site.check_rows()
    site.check_idle()
    site.settle()


def _replicated_database(site: Site) -> None:
    """ClickHouse creates on both what one creates; the database is made by the operator, on each host."""
    database = site.database("torus")
    for server in site.ground.servers:
        server.http(
            f"CREATE DATABASE {database} ENGINE = Replicated('/databases/{database}', '{{shard}}', '{{replica}}')"
        )
    first = _succeeds(site, site.ingest())
    site.check_rows()
    site.ground.servers[0].kill()
    _succeeds(site, site.again())
    site.cluster.restore()
    site.check_rows()
    _succeeds(site, ROLLBACK)
    _succeeds(site, GC)
    site.check_recovered([], first)


@contextmanager
def _lagging(site: Site) -> Iterator[None]:
    """Keep the second host from fetching the clusters of what is published meanwhile."""
    table = f"{site.database('torus')}.raw_clusters_loads"
    other = site.ground.servers[1]
    other.http(f"SYSTEM STOP FETCHES {table}")
    yield
    other.http(f"SYSTEM START FETCHES {table}")


def _behind(site: Site) -> None:
    """Each command names the host and both publications, with its exit code for findings; then there is no finding."""
    _succeeds(site, site.ingest())
    site.check_rows()
    address = site.cluster.hosts[1].address.rpartition(":")[0]
    with _lagging(site):
        _succeeds(site, [*site.again(), "--table", "raw_clusters"])
        shown = _published(site)
        text = f"{address}/{site.database('torus')} shows the publication of {shown[0]}, the newest is of {shown[1]}"
        for argv, code in ((_STATUS, 0), (_CHECK, 3), (_VERIFY, 3), (_REPORT, 0)):
            if text not in " ".join(_succeeds(site, argv, code).stdout.split()):
                site.violated(5, f"{argv[1]} does not say {text}: {site.ended[-1].stdout[-800:]}")
        (day,) = [each for each in json.loads(_succeeds(site, [*_STATUS, "--json"]).stdout) if each["behind"]]
        if text not in day["behind"][0]:
            site.violated(5, f"status --json does not say {text}: {day}")
    site.check_rows()
    for argv in (_CHECK, _VERIFY):
        _succeeds(site, argv)
    site.check_recovered([], site.run())


def _published(site: Site) -> list[str]:
    query = f"SELECT toString(toDateTime(published_at, 'UTC')) FROM {site.database('torus')}.sot_publications"
    return oracle.ask(site.ground.server, f"{query} ORDER BY published_at FORMAT TSV").decode().splitlines()


@dataclass(frozen=True)
class _Ailment:
    """What is wrong with a cluster, and what doctor says of it."""

    bring: Callable[[Site], object]
    says: str
    exit_code: int
    cure: Callable[[Site], object]


def _cut_from_keeper(site: Site) -> None:
    """Wait until the session is over: then the tables cannot be written to."""
    site.cluster.hosts[1].keeper.cut()
    time.sleep(2 * SESSION_SECONDS)


def _without_keeper(site: Site) -> None:
    site.cluster.zookeeper.kill()
    time.sleep(2 * SESSION_SECONDS)


def _name_one(site: Site) -> None:
    site.variables["CLICKHOUSE_HOST"] = site.cluster.hosts[0].address


def _shorten(seconds: int, site: Site) -> None:
    setting = f"MODIFY SETTING replicated_deduplication_window_seconds = {seconds}"
    site.ground.server.http(f"ALTER TABLE {site.database('torus')}.sot_publications {setting}")


def _restore(site: Site) -> None:
    site.cluster.restore()


_AILMENTS = {
    "a replica whose session is over": _Ailment(_cut_from_keeper, "cannot be written to", 35, _restore),
    "ZooKeeper away": _Ailment(_without_keeper, "cannot be written to", 35, _restore),
    "a host killed": _Ailment(lambda site: site.ground.servers[1].kill(), "does not answer", 35, _restore),
    "a host that CLICKHOUSE_HOST does not name": _Ailment(
        _name_one, "knows 2 replicas, CLICKHOUSE_HOST names 1", 0, lambda site: site.variables.clear()
    ),
    "tokens remembered for an hour": _Ailment(
        partial(_shorten, 3_600),
        "MODIFY SETTING replicated_deduplication_window_seconds = 315360000",
        2,
        partial(_shorten, 315_360_000),
    ),
}


def _examined(ailment: _Ailment, site: Site) -> None:
    """Doctor says nothing of a cluster that is well, then what is wrong and with which host, then nothing again."""
    _succeeds(site, site.ingest())
    site.check_rows()
    _succeeds(site, _DOCTOR)
    ailment.bring(site)
    ended = _succeeds(site, _DOCTOR, ailment.exit_code)
    if ailment.says not in " ".join(ended.stdout.split()):
        site.violated(5, f"doctor does not say {ailment.says}: {ended.stdout}")
    ailment.cure(site)
    _succeeds(site, _DOCTOR)
    site.check_recovered([], site.run())


BLOCK = Block("P", "what operators run on replicas, and what is said of one that is behind, away or read-only", cases)
