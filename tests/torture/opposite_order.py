"""O: two deployments that name the hosts in opposite order publish, roll back and collect one day, all the time."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipeline.demo.bucket import Rows
from tests.support.snapshots import Bucket, upload
from tests.torture import oracle
from tests.torture.case import Block, Case
from tests.torture.commands import Ended
from tests.torture.events import events, last_errors
from tests.torture.killed_runs import other_host
from tests.torture.site import DAY, Ground, Site
from tests.torture.strikes import GC, ROLLBACK

#: How often each command is drawn, and how it may end: 10 says that the other is at work, 2 that nothing was before.
_COMMANDS = {"run": (5, {0, 10}), "rerun": (3, {0, 10}), "rollback": (1, {0, 2, 10}), "gc": (2, {0})}


#: Why a rollback is refused, with 30, while others publish and collect what it would bring back.
_LATE = ("another publication came first", "was collected; not published")


def cases(made: Ground, _: random.Random) -> list[Case]:
    """Return the one case."""
    return [Case(f"for {made.rivals_seconds / 60:g} minutes", _run)]


def _run(site: Site) -> None:
    """Let both bring their own rows of the day in turn, then all at once; in the end ours are to be seen."""
    rival = _rival(site)
    ended = []
    for each in (rival, site):
        ended.append(each.run())
        each.check_brought(ended[-1])
    end = time.monotonic() + site.ground.rivals_seconds
    with ThreadPoolExecutor(2) as pool:
        for runs in pool.map(lambda each: _work(each, end), (site, rival)):
            ended += runs
    ended.append(site.run(site.again()))
    _check_chain(site, ended)
    site.check_recovered([], ended[-1])
    rival.check_secrets()


def _rival(site: Site) -> Site:
    """Return another deployment for the same tables, with the hosts in opposite order and rows of its own."""
    name = f"{site.name}-rival"
    host = ",".join(reversed(site.where["CLICKHOUSE_HOST"].split(",")))
    other = other_host(site)
    rows = Rows(features=51, alerts=31, clusters=21, address_labels=41)
    files = {"torus": Bucket(other.bucket).snapshot("torus", DAY, rows=rows, seed=1)}
    site.ground.client.create_bucket(Bucket=name)
    upload(other.bucket, site.ground.client, name)
    return replace(other, files=files, variables={"SOT_S3_BUCKET": name, "CLICKHOUSE_HOST": host})


def _work(site: Site, end: float) -> list[Ended]:
    """Run commands as they are drawn until the time is over."""
    chance, ended = random.Random(site.where["CLICKHOUSE_HOST"] + str(site.variables)), []  # noqa: S311  # repeatable
    argv = {"run": site.ingest(), "rerun": site.again(), "rollback": ROLLBACK, "gc": GC}
    while time.monotonic() < end:
        (verb,) = chance.choices(list(_COMMANDS), [weight for weight, _ in _COMMANDS.values()])
        run = site.run(argv[verb])
        is_late = verb == "rollback" and any(text in last_errors(run) for text in _LATE)
        if (run.exit_code not in _COMMANDS[verb][1] and not is_late) or "Traceback" in run.stderr:
            site.violated(5, f"{verb} exited {run.exit_code}: {last_errors(run) or run.stderr[-1_000:]}")
        ended.append(run)
    return ended


def _check_chain(site: Site, ended: list[Ended]) -> None:
    """Check that every host has the same publications, each that a command says it made, and no other."""
    told = [event for run in ended for event in events(run.stderr) if event["message"] == "Published snapshot"]
    made = sum("by_another_run" not in event for event in told)
    made += sum(run.command[1] == "rollback" and run.exit_code == 0 for run in ended)
    chains = [
        oracle.ask(
            server,
            f"SELECT DISTINCT published_at, publication_id FROM {site.database('torus')}.sot_publications "
            "WHERE action != 'retire' AND publication_id != toUUID('ffffffff-ffff-ffff-ffff-ffffffffffff') "
            "ORDER BY 1 FORMAT TSV",
        ).decode()
        for server in site.ground.servers
    ]
    if len(set(chains)) > 1:
        site.violated(1, f"the hosts have different publications: {[len(chain.splitlines()) for chain in chains]}")
    times = [line.split("\t") for line in chains[0].splitlines()]
    if len({time for time, _ in times}) != len(times):
        site.violated(1, "two publications of one moment")
    if len({id_ for _, id_ in times}) != made:
        site.violated(1, f"{made} publications were told, {len({id_ for _, id_ in times})} are there")


BLOCK = Block("O", "two deployments, hosts in opposite order, publish, roll back and collect at once", cases)
