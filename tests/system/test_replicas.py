"""Several hosts that hold the same: one successor of each publication and claim, and no reader sees a half one."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.clickhouse import ANSWER_SECONDS
from pipeline.errors import WarehouseError, WarehouseUnavailableError
from pipeline.graph.context import QUICK_SECONDS, Context
from pipeline.graph.targets import CleanedUp
from pipeline.operations import gc
from pipeline.operations.doctor import Examination
from pipeline.operations.doctor.replicas import check_replicas
from pipeline.operations.replicas import hosts_behind
from pipeline.operations.report.data import collect as collect_report
from pipeline.operations.rollback import plan_rollback, roll_back
from pipeline.settings import Settings
from pipeline.tables import CLAIMS, LEDGER, PUBLICATIONS, TABLES, schema_sql
from pipeline.warehouse import Warehouse, collect
from pipeline.warehouse.claim_holder import Claims
from pipeline.warehouse.claims import Claimant, newest_claim, take_claim
from pipeline.warehouse.collect import stored_loads
from pipeline.warehouse.ledger import record_load
from pipeline.warehouse.publications import Publication, publications_of
from pipeline.warehouse.publish import new_id, publish_after, publish_loads
from pipeline.warehouse.replication import copy_to_hosts
from pipeline.warehouse.retire import retire_snapshot
from pipeline.warehouse.schema import check_schema, ensure_on_other_hosts, ensure_schema
from pipeline.warehouse.server import ServerWarehouse
from pipeline.warehouse.shape import OBJECTS, VIEWS
from pipeline.warehouse.shard import Shard
from tests.support.clickhouse import ROOT, Keeper, OwnClickHouse, User, free_ports
from tests.support.deployment import a_day
from tests.support.inprocess import steps_in_order
from tests.support.replicas import Replicas, seen, store_loads, two_replicas
from tests.support.snapshots import Bucket
from tests.system.test_docs import GRANTS, grants_to, without_grantee
from tests.unit.warehouse.test_ledger import a_load

DAY = a_day()
DATE = DAY.processing_date.isoformat()

#: The issue's rounds are many, for chance to bring each order about; a few show that nothing is wrong at once.
ROUNDS = [pytest.param(20, id="quick"), pytest.param(500, id="many", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnClickHouse]:
    """A server with a Keeper; tables that become replicas are those of the databases' names."""
    paths = "<default_replica_path>/default/{database}/{table}</default_replica_path>"
    names = "<default_replica_name>{database}</default_replica_name>"
    granted = [each.replace(" ON torus.", " ON *.") for each in (*GRANTS, *grants_to("sot_replicas"))]
    users = {
        f"grantee{place}": User(f"pw{place}", tuple(without_grantee([g for g in granted if g != left_out])))
        for place, left_out in (("_1", granted[-2]), ("_2", granted[-1]), ("", ""))
    }
    directory = tmp_path_factory.mktemp("replicas")
    with OwnClickHouse(directory, keeper=Keeper(), more_config=paths + names, users=users) as made:
        yield made


@pytest.fixture(scope="module")
def pair(server: OwnClickHouse) -> Iterator[Replicas]:
    """Two hosts in the pipeline's shape, for tests that each have a day of their own."""
    with two_replicas(server) as made:
        ensure_schema(made.shard().current())
        yield made


@pytest.fixture
def empty(server: OwnClickHouse) -> Iterator[Replicas]:
    """Two hosts without tables."""
    with two_replicas(server) as made:
        yield made


def on_shard(shard: Shard) -> Context:
    """Return the context of a run whose network is on these hosts."""
    keys = [("torus", seconds) for seconds in (ANSWER_SECONDS, QUICK_SECONDS)]
    settings = Settings.model_validate({"WAREHOUSE_PATH": Path(), "INGESTION_NETWORKS": "torus"})
    return Context(settings, dict.fromkeys(keys, shard))


def publish(host: Warehouse, loads: dict[str, tuple[str, int]], manifest: str, day: Any = DAY) -> Publication:
    """Publish loads as a manifest's."""
    return publish_loads(
        host,
        day,
        manifest_sha256=manifest,
        source=f"s3://{manifest}",
        loads=loads,
        run_id="run",
        is_upstreams=lambda _, sha256: sha256 == manifest,
    )


# Which one is first


@pytest.mark.parametrize("rounds", ROUNDS)
def test_of_two_publications_through_two_replicas_one_takes_effect(pair: Replicas, rounds: int) -> None:
    """In each round both hosts publish after the same one at the same instant; both see one line of publications."""
    day = a_day(f"2024-01-{1 + rounds % 2:02}")
    hosts = [pair.host(0), pair.host(1)]
    start = threading.Barrier(2)
    newest = publish(hosts[0], {}, "0" * 64, day)

    def compete(host: ServerWarehouse) -> Publication | None:
        wanted = replace(newest, publication_id=new_id(host))
        start.wait()
        return publish_after(host, day, wanted, after=newest)

    chain = [newest]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            (winner,) = filter(None, pool.map(compete, hosts))
            chain.append(winner)
            newest = winner
    assert [publications_of(host, day) for host in hosts] == [chain, chain]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_of_two_claims_through_two_replicas_one_counts(pair: Replicas, rounds: int) -> None:
    """Each round both hosts claim a day that nobody has: both are told the same owner, and that is in the table."""
    day = a_day(f"2024-02-{1 + rounds % 2:02}")
    hosts = [pair.host(0), pair.host(1)]
    who = [Claimant(owner, owner) for owner in ("one", "two")]
    start = threading.Barrier(2)

    def compete(place: int) -> str:
        start.wait()
        return take_claim(hosts[place], day, who[place], seconds=3_600).owner

    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            (owner,) = set(pool.map(compete, range(2)))
            hosts[0].sync(CLAIMS)
            of_day = f"FROM {{database}}.{CLAIMS} WHERE processing_date = '{day.processing_date}'"
            assert hosts[0].query(f"SELECT count() - uniqExact(number) {of_day}") == [(0,)]
            current = newest_claim(hosts[0], day)
            assert current
            assert current.owner == owner
            released = "* REPLACE (number + 1 AS number, claimed_at AS until)"
            hosts[0].execute(
                f"INSERT INTO {{database}}.{CLAIMS} SELECT {released} {of_day} ORDER BY number DESC LIMIT 1"
            )


@pytest.mark.parametrize("seconds", [300, -300])
def test_by_which_clock_a_claim_ends_does_not_matter_to_who_watches_it(pair: Replicas, seconds: int) -> None:
    """Replicas' clocks may differ: a claim that another one renews keeps out, one that is not renewed has ended."""
    day = a_day(f"2024-02-{3 if seconds > 0 else 4:02}")
    one, two = (pair.host(place) for place in range(2))

    def claim() -> None:
        of_day = f"FROM {{database}}.{CLAIMS} WHERE processing_date = '{day.processing_date}' ORDER BY number DESC"
        times = f"now64(6) + {seconds} AS claimed_at, now64(6) + {seconds} + 30 AS until"
        one.execute(
            f"INSERT INTO {{database}}.{CLAIMS} SELECT * REPLACE (number + 1 AS number, {times}) {of_day} LIMIT 1"
        )

    take_claim(one, day, Claimant("other", "run 1"))
    claim()
    ours = Claims(lambda _: two, Claimant("ours", "run 2"), lasts=1, poll=0.05)
    renewed = threading.Timer(0.3, claim)
    renewed.start()
    kept_out_by = ours.acquire(day)
    renewed.join()
    assert kept_out_by
    assert (kept_out_by.owner, kept_out_by.number) == ("other", 3)
    assert ours.acquire(day) is None
    ours.release_all()


def test_without_keeper_nothing_is_decided(pair: Replicas) -> None:
    """A host that does not get what the other has cannot tell what is the newest: a publication, a claim, a collection
    and the question what is published end with an error, and write nothing.
    """
    day = a_day("2024-03-01")
    shard = pair.shard()
    one, two = shard.hosts
    first = publish(one, {}, "a" * 64, day)
    two.sync(PUBLICATIONS)
    lagging = pair.host(1)
    lagging.join([lagging], lambda _: None)
    lagging.server = replace(lagging.server, answer_seconds=1)
    pair.run(f"SYSTEM STOP FETCHES {{1}}.{PUBLICATIONS}")
    try:
        second = publish_after(one, day, replace(first, publication_id=new_id(one)), after=first)
        acts: list[Callable[[], object]] = [
            lambda: publications_of(lagging, day),
            lambda: publish_after(lagging, day, replace(first, publication_id=new_id(lagging)), after=first),
            lambda: retire_snapshot(lagging, day, run_id="run"),
        ]
        lagging.retry = lambda call: call()  # type: ignore[method-assign]  # at once
        for act in acts:
            with pytest.raises(WarehouseUnavailableError, match="not known to be up to date"):
                act()
    finally:
        pair.run(f"SYSTEM START FETCHES {{1}}.{PUBLICATIONS}")
    assert publications_of(two, day) == [first, second]


# What readers of a replica see


def rows_published(host: ServerWarehouse, day: Any, rows: int) -> Publication:
    """Publish a version that has so many rows in each table, as runs would with their ledger."""
    loads = store_loads(host, day.processing_date.isoformat(), rows)
    for name, (load_id, count) in loads.items():
        entry = replace(a_load(), processing_date=day.processing_date, table_name=name, load_id=load_id)
        record_load(host, entry.now("loaded", row_count=count))
    return publish(host, loads, f"{rows:064}", day)


def collect_garbage(shard: Shard, day: Any) -> gc.Garbage:
    """Remove all but the newest version of a day."""
    policy = gc.Policy(1, None, datetime.now(UTC))
    found = gc.find(on_shard(shard), policy)
    only = [garbage for garbage in found.loads if garbage.load.snapshot == day]
    return gc.remove_garbage(on_shard(shard), policy, replace(found, loads=only))


ACTS: dict[str, Callable[[Shard, Any], object]] = {
    "publish": lambda shard, day: rows_published(shard.hosts[0], day, 3),
    "rollback": lambda shard, day: roll_back(on_shard(shard), plan_rollback(on_shard(shard), day, None)),
    "retire": lambda shard, day: retire_snapshot(shard.hosts[0], day, run_id="run"),
    "gc": collect_garbage,
}

LOADS_TABLES = [table.loads for table in TABLES]
LAGGING = [*LOADS_TABLES, LEDGER, PUBLICATIONS]
QUICK = {
    ("publish", "raw_features_loads"),
    ("publish", PUBLICATIONS),
    ("rollback", PUBLICATIONS),
    ("retire", PUBLICATIONS),
    ("gc", "raw_alerts_loads"),
}


#: Each act with each table behind; those that are the likeliest to show a mistake are always looked at.
LAGS = [
    pytest.param(act, table, 15, id=f"{act}-{table}")
    if (act, table) in QUICK
    else pytest.param(act, table, 105, id=f"{act}-{table}", marks=pytest.mark.slow)
    for act in ACTS
    for table in LAGGING
]


@pytest.mark.parametrize(("act", "table", "reads"), LAGS)
def test_a_replica_that_lags_shows_whole_versions(pair: Replicas, act: str, table: str, reads: int) -> None:
    """A table stays behind on one host, while a version is published, brought back, retired or collected through the
    other: the views show one version in all four tables, and that of the other host when the lag ends.

    The views of one server, over the same tables, show a day without one of its tables: what is tested could fail.
    """
    day = a_day(f"2024-{4 + list(ACTS).index(act):02}-{1 + LAGGING.index(table):02}")
    date = day.processing_date.isoformat()
    shard = pair.shard()
    one, two = shard.hosts
    two.server = replace(two.server, answer_seconds=2)
    for rows in (1, 2):
        rows_published(one, day, rows)
    two.sync(*LAGGING)
    shown: list[tuple[int, ...]] = []
    done = threading.Event()

    def read() -> None:
        reader = pair.host(1)
        while not done.is_set() or len(shown) < reads:
            shown.append(tuple(seen(reader, date)))

    pair.run(f"SYSTEM STOP FETCHES {{1}}.{table}")
    thread = threading.Thread(target=read)
    thread.start()
    try:
        ACTS[act](shard, day)
    finally:
        done.set()
        thread.join()
        pair.host(1).sync(*(name for name in LAGGING if name != table))
        by_control = seen(two, date, views_of_one_server(pair))
        pair.run(f"SYSTEM START FETCHES {{1}}.{table}")
    assert [each for each in shown if len(set(each)) > 1] == []
    assert (len(set(by_control)) > 1) == (act == "publish" and table in LOADS_TABLES)
    two.sync(*LAGGING)
    assert seen(two, date) == seen(one, date)


def views_of_one_server(pair: Replicas) -> str:
    """Create, beside those of the lagging host, the views that a single server has; return the database."""
    database = f"{pair.database(1)}_control"
    pair.server.http(f"CREATE DATABASE IF NOT EXISTS {database}")
    for table in TABLES:
        statement = schema_sql(table.name).replace("EXISTS {database}.", f"EXISTS {database}.")
        pair.server.http(statement.replace("{database}", pair.database(1)))
    return database


def test_a_day_is_loaded_through_one_host_and_published_through_the_other(empty: Replicas, tmp_path: Path) -> None:
    """The first does not answer after the loads: what it loaded is there, and no file is loaded again. It is back for
    the rerun, which has nothing to do, and shows what the other published.
    """
    files = Bucket(tmp_path / "bucket").snapshot()
    shard = empty.shard()
    one, two = shard.hosts
    variables = {"SOT_PATH": files.root, "WORK_PATH": tmp_path / "work", "INGESTION_NETWORKS": "torus"}
    context = Context(Settings.model_validate(variables), {("torus", ANSWER_SECONDS): shard})
    used = []
    for name, _, step in steps_in_order(context, files.snapshot):
        if name == "PublishSnapshot":
            shard._leave(one)
        step()
        used.append(context.warehouse("torus"))
    assert used == [one] * (len(used) - 2) + [two] * 2
    loads = two.query("SELECT count(), uniqExact(load_id) FROM {database}.sot_table_loads WHERE state = 'loaded'")
    assert loads == [(4, 4)]
    rows = [len(files.expected_rows(table.name)) for table in TABLES]
    for host in shard.hosts:
        host.sync(*LAGGING)
        assert seen(host, DATE) == rows
    again = Context(context.settings, {("torus", ANSWER_SECONDS): empty.shard()})
    assert CleanedUp(again, files.snapshot).is_current()
    assert again.warehouse("torus").database == one.database


# Set-ups


def test_tables_and_views_are_on_every_host(empty: Replicas) -> None:
    """As replicas, with windows of years for tokens; a second look writes nothing."""
    shard = empty.shard()
    ensure_schema(shard.current())
    for place, host in enumerate(shard.hosts):
        engines = dict(
            host.query(
                "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() "
                "OR database = {name:String}",
                name=host.database,
            )
        )
        tables = {name for name in OBJECTS if name not in VIEWS}
        assert {name for name in engines if engines[name].startswith("Replicated")} == tables
        assert set(OBJECTS) <= engines.keys()
        assert f"('/{empty.name}/{LEDGER}', '{empty.database(place)}')" in engines[LEDGER]
        assert "min_compressed_bytes_to_fsync_after_fetch = 1" in engines[LEDGER]
        for name in (PUBLICATIONS, CLAIMS):
            assert "replicated_deduplication_window_seconds = 315360000" in engines[name]
    made = {host.uri: check_schema(host) for host in shard.hosts}
    ensure_schema(shard.current())
    assert {host.uri: check_schema(host) for host in shard.hosts} == made


def test_a_host_that_was_away_gets_its_tables_with_the_next_run(empty: Replicas) -> None:
    """The other is asked meanwhile, and what is published there is on both then; two copies are too many to ask for."""
    (port,) = free_ports(1)
    shard = empty.shard(away=0, port=port)
    assert shard.current() is shard.hosts[1]
    ensure_schema(shard.current())
    loads = store_loads(shard.hosts[1], DATE, 2)
    copy_to_hosts(shard.hosts[1], LEDGER)
    for host in shard.hosts:
        host.replication = replace(host.replication, min_copies=2)
    with pytest.raises(WarehouseUnavailableError, match="1 of 2 hosts have sot_table_loads"):
        copy_to_hosts(shard.hosts[1], LEDGER)
    publish(shard.hosts[1], loads, "a" * 64)
    back = empty.shard()
    assert back.current() is back.hosts[1]  # the first would say that nothing is published
    ensure_on_other_hosts(back.current())
    assert {host.uri: len(check_schema(host)) for host in back.hosts} == {host.uri: len(OBJECTS) for host in back.hosts}
    assert empty.shard().current().uri == back.hosts[0].uri
    assert len(publications_of(back.hosts[0], DAY)) == 1
    back.hosts[0].sync(*(table.loads for table in TABLES))
    assert seen(back.hosts[0], DATE) == [2, 2, 2, 2]


def test_a_try_stays_with_its_host_and_the_next_takes_another(empty: Replicas) -> None:
    """Whoever holds a host goes on with it; from then on the other is given out."""
    shard = empty.shard()
    held = shard.current()
    assert held is shard.hosts[0]
    shard._leave(held)
    assert shard.current() is shard.hosts[1]
    context, hosts = on_shard(empty.shard()), []

    def step() -> str:
        warehouse = context.warehouse("torus")
        hosts.append(warehouse.database)
        if len(hosts) == 1:
            context._warehouses["torus", ANSWER_SECONDS]._leave(warehouse)  # type: ignore[union-attr,arg-type]
            raise WarehouseUnavailableError("the connection broke", hint="")
        return "done"

    assert context.try_hosts("torus", step) == "done"
    assert hosts == [empty.database(0), empty.database(1)]


def test_an_insert_does_not_try_for_minutes_where_another_host_can_be_asked(pair: Replicas) -> None:
    """To reach Keeper; where there is no other host it tries as often as the server's default says."""
    shard, alone = pair.shard(), pair.host(0)
    for host, tries in ((shard.hosts[0], 5), (alone, 20)):
        is_other = f"throwIf(getSetting('insert_keeper_max_retries') != {tries})"
        host.execute(f"INSERT INTO {{database}}.{CLAIMS} (number) SELECT {is_other}")


def test_what_is_no_shard_is_refused(empty: Replicas) -> None:
    """Plain tables on one of the hosts; hosts that are replicas of something else; windows that are too short."""
    alone = empty.host(1)
    ensure_schema(alone)
    shard = empty.shard()
    with pytest.raises(WarehouseError, match="has engine MergeTree, expected ReplicatedMergeTree"):
        ensure_schema(shard.current())
    alone.execute("DROP DATABASE {database} SYNC")
    elsewhere = empty.host(1)
    elsewhere.replication = replace(elsewhere.replication, wanted="true", path="/elsewhere/" + empty.name + "/{table}")
    ensure_schema(elsewhere)
    with pytest.raises(WarehouseError, match="are no replicas of each other"):
        ensure_schema(shard.current())
    elsewhere.execute(
        f"ALTER TABLE {{database}}.{PUBLICATIONS} MODIFY SETTING replicated_deduplication_window_seconds = 3600"
    )
    with pytest.raises(WarehouseError, match=r"MODIFY SETTING replicated_deduplication_window_seconds = 315360000"):
        check_schema(elsewhere)


def test_one_host_is_as_ever(empty: Replicas) -> None:
    """On a server with a Keeper, too: plain tables, and no statement about replicas."""
    alone = empty.host(0)
    statements: list[str] = []
    run = alone._run

    def recorded(statement: str, *more: Any) -> list[tuple[Any, ...]]:
        statements.append(statement)
        return run(statement, *more)

    alone._run = recorded  # type: ignore[method-assign,assignment]
    ensure_schema(alone)
    publish(alone, store_loads(alone, DATE, 1), "a" * 64)
    assert seen(alone, DATE) == [1, 1, 1, 1]
    assert [each for each in statements if "SYNC" in each or "Replicated" in each or "system.replicas" in each] == []
    engines = alone.query(
        "SELECT DISTINCT engine FROM system.tables WHERE database = {name:String}", name=alone.database
    )
    assert sorted(engines) == [("MergeTree",), ("View",)]


CONVERSIONS = re.findall("```sql\n(DETACH.*?)```", (ROOT / "docs/cluster.md").read_text("utf-8"), re.DOTALL)


def convert(pair: Replicas, place: int, statements: str) -> None:
    """Run what docs/cluster.md says, for every table and view of a host."""
    for name in OBJECTS:
        kind = "DROP VIEW" if name in VIEWS else "DETACH, ATTACH, SYSTEM, ALTER"
        for statement in filter(str.strip, statements.split(";")):
            if statement.strip().startswith(tuple(kind.split(", "))):
                of_name = re.sub(r"torus\.\w+", f"{pair.database(place)}.{name}", statement)
                pair.server.http(of_name)


def test_the_tables_of_one_server_become_replicas_and_back(empty: Replicas) -> None:
    """As docs/cluster.md says, without loading again: readers see the same rows, of the second host too."""
    to_replicas, back = CONVERSIONS
    alone = empty.host(0)
    ensure_schema(alone)
    publish(alone, store_loads(alone, DATE, 2), "a" * 64)
    convert(empty, 0, to_replicas)
    shard = empty.shard()
    for host in shard.hosts:
        host.replication = replace(host.replication, path=f"/default/{empty.database(0)}/{{table}}")
    ensure_schema(shard.current())
    shard.hosts[1].sync(*LAGGING)
    assert [seen(host, DATE) for host in shard.hosts] == [[2, 2, 2, 2]] * 2
    publish(shard.hosts[1], store_loads(shard.hosts[1], DATE, 3), "b" * 64)
    shard.hosts[0].sync(*LAGGING)
    convert(empty, 0, back)
    alone = empty.host(0)
    ensure_schema(alone)
    assert not alone.is_replicated
    assert seen(alone, DATE) == [3, 3, 3, 3]
    assert [each.manifest_sha256[0] for each in publications_of(alone, DAY)] == ["a", "b"]


def test_a_replicated_database(server: OwnClickHouse) -> None:
    """ClickHouse chooses the paths, and creates on all hosts what one creates: one host is enough to say so. Plain
    tables there would have each row on one host.
    """
    name = "replicated_torus"
    server.http(f"CREATE DATABASE {name} ENGINE = Replicated('/databases/{name}', '{{shard}}', '{{replica}}')")
    pair = Replicas(server, name)
    pair.database = lambda _: name  # type: ignore[method-assign,assignment]
    host = pair.host(0)
    plain = pair.host(0)
    plain.replication = replace(plain.replication, wanted="false")
    with pytest.raises(WarehouseError, match="engine Replicated: its tables of engine MergeTree"):
        ensure_schema(plain)
    ensure_schema(host)
    publish(host, store_loads(host, DATE, 2), "a" * 64)
    assert host.is_replicated
    assert seen(host, DATE) == [2, 2, 2, 2]
    ((engine,),) = host.query(f"SELECT engine_full FROM system.tables WHERE database = '{name}' AND name = '{LEDGER}'")
    assert engine.startswith("ReplicatedMergeTree('/default/replicated_torus/")
    server.http(f"DROP DATABASE {name} SYNC")


CLEANUP = ("cleanup_delay_period_random_add", "cleanup_thread_preferred_points_per_iteration")


@pytest.mark.slow
def test_keeper_forgets_what_was_dropped(pair: Replicas) -> None:
    """As soon as the empty part that a drop leaves is gone; the grants of a run are enough. Not what still has rows."""
    day = a_day("2024-12-03")
    shard = pair.shard()
    one = shard.hosts[0]
    at_once = ", ".join(f"{name} = 0" for name in ("old_parts_lifetime", "cleanup_delay_period", *CLEANUP))
    for name, place in product(LOADS_TABLES, range(2)):
        pair.run(f"ALTER TABLE {{{place}}}.{name} MODIFY SETTING {at_once}")
    for name, (load_id, _) in store_loads(one, day.processing_date.isoformat(), 1).items():
        one.execute(
            f"INSERT INTO {{database}}.{LEDGER} (processing_date, window_days, table_name, load_id, state, recorded_at)"
            f" SELECT '{day.processing_date}', 195, '{name}', '{load_id}', 'failed', now64(6) - INTERVAL 1 HOUR"
        )
    assert collect.forget_partitions(one, "torus") == 0
    for load in stored_loads(one, "torus"):
        if load.snapshot == day:
            collect.drop(one, load)
    forgotten = 0
    deadline = time.monotonic() + 60
    while forgotten < len(TABLES) and time.monotonic() < deadline:
        forgotten += collect.forget_partitions(one, "torus")
    assert forgotten == len(TABLES)
    assert collect.forget_partitions(one, "torus") == 0


def test_what_hosts_lack_is_told(pair: Replicas) -> None:
    """Which shows what, for status, verify, check and report; what doctor finds of lag, a short list, a host away."""
    day = a_day("2024-12-02")
    shard = pair.shard()
    one, two = shard.hosts
    first = rows_published(one, day, 1)
    two.sync(*LAGGING)
    pair.run("SYSTEM STOP FETCHES {1}.raw_clusters_loads")
    try:
        second = rows_published(one, day, 2)
        behind = hosts_behind(one, "torus", day.processing_date, day.processing_date, 195)
        now = datetime.now(UTC)
        page = collect_report(on_shard(shard), days=1, last=day.processing_date, now=now, next_steps=False)
        two.server = replace(two.server, answer_seconds=1)
        lagging = list(check_replicas(Examination(on_shard(shard))))
    finally:
        pair.run("SYSTEM START FETCHES {1}.raw_clusters_loads")
    (text,) = map(str, behind[day.processing_date])
    assert text == (
        f"{two.uri} shows the publication of {first.published_at:%Y-%m-%d %H:%M:%S}, "
        f"the newest is of {second.published_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    assert [network.behind for network in page.networks] == [(f"{text} ({day.processing_date})",)]
    assert [entry.status.behind for entry in page.newest_first] == [(text,)]
    assert [each.state for each in lagging] == ["ok", "failed"]
    assert "raw_clusters_loads is not known to be up to date" in lagging[1].text
    two.sync(*LAGGING)
    assert hosts_behind(one, "torus", day.processing_date, day.processing_date, 195) == {}
    assert [each.state for each in check_replicas(Examination(on_shard(pair.shard())))] == ["ok", "ok"]
    (port,) = free_ports(1)
    away = pair.shard(away=1, port=port)
    (told,) = hosts_behind(away.current(), "torus", day.processing_date, day.processing_date, 195)[day.processing_date]
    assert str(told).startswith(f"{away.hosts[1].uri} does not tell what it shows")
    assert next(check_replicas(Examination(on_shard(away)))).text.endswith("does not answer")
    alone = pair.host(0)
    alone.join([alone], lambda _: None)
    (short,) = check_replicas(Examination(on_shard(Shard([alone]))))
    assert (short.state, "CLICKHOUSE_HOST names 1" in short.text) == ("warning", True)


def test_the_grants_for_replicas_are_enough_and_none_is_too_many(server: OwnClickHouse, empty: Replicas) -> None:
    """docker/grants.sql has them; without one of them the error says that a privilege lacks."""

    def work(user: str) -> list[str]:
        shard = empty.shard()
        password = SecretStr(server.users[user].password)
        for host in shard.hosts:
            host.server = replace(host.server, _clients={}, user=user, password=password)
        ensure_schema(shard.current())
        publish(shard.current(), {}, "a" * 64)
        shard.current().execute(
            f"INSERT INTO {{database}}.{LEDGER} (processing_date, window_days, table_name, state, recorded_at)"
            f" SELECT '{DATE}', 195, 'raw_alerts', 'failed', now64(6) - INTERVAL 1 HOUR"
        )
        assert collect.forget_partitions(shard.current(), "torus") == 0
        return [each.state for each in check_replicas(Examination(on_shard(shard)))]

    for user in ("grantee_1", "grantee_2"):
        with pytest.raises(WarehouseError, match="Not enough privileges"):
            work(user)
    assert work("grantee") == ["ok", "ok"]


def test_gc_drops_only_while_every_replica_is_there(pair: Replicas) -> None:
    """A replica that is not in the list could show what is dropped."""
    day = a_day("2024-12-01")
    shard = pair.shard()
    for rows in (1, 2):
        rows_published(shard.hosts[0], day, rows)
    alone = pair.host(0)
    for act, left in ((Shard([alone]), "there are 2 replicas, and CLICKHOUSE_HOST names 1"), (shard, "")):
        found = collect_garbage(act, day)
        assert [text for text in found.left if left not in text] == []
        assert len(found.loads) == (0 if left else 4)
    shard.hosts[1].sync(*LOADS_TABLES)
    (kept,) = {load.rows for load in stored_loads(shard.hosts[1], "torus") if load.snapshot == day}
    assert kept == 2
