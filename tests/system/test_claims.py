"""One snapshot, several runs: one does the work; the others wait, or leave with 10, and nothing is published twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import ClaimedError
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse
from pipeline.warehouse.claim_holder import Claims
from pipeline.warehouse.claims import Claimant, newest_claim
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import SECONDS, Deployment, Result, ServerReader, in_directory, rerun_of, run_of
from tests.support.snapshots import Bucket, SnapshotFiles, contract
from tests.support.warehouses import on_server
from tests.support.zygote import Command


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def brake(clickhouse: ClickHouseServer) -> Iterator[Brake]:
    """Holds the rows of a load in the middle of the file."""
    with Brake((clickhouse.host, clickhouse.http_port), limit=20_000).running() as brake:
        yield brake


def deployments(
    files: SnapshotFiles, clickhouse: ClickHouseServer, prefix: str, tmp_path: Path
) -> tuple[Deployment, Deployment]:
    """Return two hosts with one source and one warehouse."""
    first, second = (
        Deployment(in_directory(files.root), ServerReader(clickhouse, prefix), tmp_path / name)
        for name in ("first", "second")
    )
    return first, second


@pytest.fixture
def warehouse(clickhouse: ClickHouseServer) -> Iterator[Warehouse]:
    """A database of the test's own."""
    with on_server(clickhouse) as databases:
        yield databases.new()


FIRST, SECOND = Claimant("first:/work", "run 1"), Claimant("second:/work", "run 2")
SNAPSHOT = Snapshot("torus", date(2025, 8, 1), 195)


def claims_of(warehouse: Warehouse, who: Claimant, *, lasts: float = 60, renewed_every: float = 30) -> Claims:
    """Return the claims of a run, which look often."""
    return Claims(lambda _: warehouse, who, lasts=lasts, renewed_every=renewed_every, poll=0.05)


def test_of_many_that_claim_at_once_one_has_it(warehouse: Warehouse) -> None:
    """The table, and even the database, is made by whoever comes first; all are told the same owner."""
    warehouse.execute("DROP DATABASE {database} SYNC")
    told: list[tuple[bool, str]] = []

    def claim(number: int) -> None:
        try:
            with claims_of(warehouse, Claimant(f"host {number}", "run")).held(SNAPSHOT):
                everybody.wait()
                told.append((True, f"host {number}"))
        except ClaimedError as error:
            everybody.wait()
            told.append((False, str(error).split(" is at work")[0].removeprefix(f"{SNAPSHOT}: ")))

    everybody = threading.Barrier(4, timeout=SECONDS)
    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [owner for won, owner in told if won]
    assert {owner for _, owner in told} == {winner}
    assert len(told) == 4


def test_a_claim_that_is_renewed_keeps_others_out(warehouse: Warehouse) -> None:
    """It outlives its time while its run lives, and another run sees so and leaves; it has it when it is released."""
    first, second = claims_of(warehouse, FIRST, lasts=1.5, renewed_every=0.3), claims_of(warehouse, SECOND)
    assert first.acquire(SNAPSHOT) is None
    with pytest.raises(ClaimedError, match="first:/work is at work"), second.held(SNAPSHOT):
        pass
    for _ in range(2):
        claim = second.acquire(SNAPSHOT)
        assert claim is not None
        assert claim.owner == FIRST.owner
    first.release(SNAPSHOT)
    assert second.acquire(SNAPSHOT) is None
    second.release_all()


def test_a_claim_that_is_not_renewed_ends(warehouse: Warehouse) -> None:
    """Another run waits for that, and has it; the one that lost it neither takes it back nor releases it."""
    lost, second = claims_of(warehouse, FIRST, lasts=0.5, renewed_every=1), claims_of(warehouse, SECOND)
    assert lost.acquire(SNAPSHOT) is None
    assert second.acquire(SNAPSHOT) is None
    time.sleep(1.2)
    lost.release(SNAPSHOT)
    claim = newest_claim(warehouse, SNAPSHOT)
    assert claim is not None
    assert (claim.owner, claim.alive, claim.number) == (SECOND.owner, True, 2)
    second.release_all()


def test_the_claim_of_a_killed_run_of_the_same_deployment(warehouse: Warehouse) -> None:
    """Who holds the deployment's lock has it at once; who does not is kept out; no run releases another one's."""
    killed = claims_of(warehouse, FIRST)
    unlocked, locked = (claims_of(warehouse, Claimant(FIRST.owner, f"run {held}", held)) for held in (False, True))
    assert killed.acquire(SNAPSHOT) is None
    with pytest.raises(ClaimedError), unlocked.held(SNAPSHOT):
        pass
    assert locked.acquire(SNAPSHOT) is None
    for other in (killed, unlocked):
        other.release(SNAPSHOT)
        other.release_all()
    claim = newest_claim(warehouse, SNAPSHOT)
    assert claim is not None
    assert (claim.run_id, claim.alive) == ("run True", True)
    locked.release_all()


def test_a_forked_process_releases_no_claim(warehouse: Warehouse) -> None:
    """It has what its parent knew, and ends before it."""
    claims = claims_of(warehouse, FIRST)
    claims.acquire(SNAPSHOT)
    if (child := os.fork()) == 0:
        try:
            claims.release(SNAPSHOT)
            claims.release_all()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    claim = newest_claim(warehouse, SNAPSHOT)
    assert claim is not None
    assert (claim.alive, claim.number) == (True, 1)
    claims.release_all()


def clock_forward(deployment: Deployment, snapshot: Snapshot) -> None:
    """Let the newest claim of a snapshot have run out."""
    database = f"{deployment.reader.prefix}{snapshot.network}"  # type: ignore[attr-defined]
    server: ClickHouseServer = deployment.reader.server  # type: ignore[attr-defined]
    server.http(
        f"""
        INSERT INTO {database}.sot_claims
        SELECT * REPLACE (number + 1 AS number, now64(6) - 200 AS claimed_at, now64(6) - 80 AS until)
        FROM {database}.sot_claims
        ORDER BY number DESC
        LIMIT 1
        """
    )


def work_was_done_once(deployment: Deployment, files: SnapshotFiles) -> None:
    """One publication, one proven load of each table, and readers see the files."""
    assert len(deployment.publications(files.snapshot)) == 1
    assert {table: len(loads) for table, loads in deployment.loads(files.snapshot).items()} == dict.fromkeys(
        contract(), 1
    )
    deployment.assert_readers_see(files)


def at_work(deployment: Deployment, brake: Brake, files: SnapshotFiles) -> Command:
    """Start a run and return when it stands still in the middle of its first load."""
    deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
    run = deployment.start(*run_of(files.snapshot), "--workers", "1")
    assert brake.held.wait(SECONDS)
    return run


def ended(run: Command) -> Result:
    """Wait for the end of a run."""
    stdout, stderr = run.communicate(timeout=SECONDS)
    return Result(run.wait(), stdout, stderr)


def released_by_their_runs(deployment: Deployment, snapshot: Snapshot) -> bool:
    """Tell whether each claim that was released follows one of the same run."""
    rows = deployment.query(
        snapshot.network, "SELECT run_id, until <= claimed_at AS released FROM {db}.sot_claims ORDER BY number"
    )
    return all(run == before for (before, _), (run, released) in pairwise(rows) if released)


def test_another_run_of_the_deployment_leaves_the_claim_alone(
    files: SnapshotFiles, clickhouse: ClickHouseServer, database_prefix: str, brake: Brake, tmp_path: Path
) -> None:
    """Whatever it is started as, it exits 10 and says so; another deployment finds the first one's claim alive."""
    first, second = deployments(files, clickhouse, database_prefix, tmp_path)
    run = at_work(first, brake, files)
    day = files.snapshot.processing_date.isoformat()
    of_day = ["--network", "torus", "--local-scheduler", "--processing-date", day]
    for command in (
        run_of(files.snapshot),
        ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", *of_day],
        ["luigi", "--module", "pipeline.tasks", "PublishSnapshot", *of_day],
        ["sot-ingest", "backfill", "--from", day, "--to", day, "--network", "torus", "--scheduler", "local"],
        rerun_of(files.snapshot),
    ):
        refused = first.command(*command)
        assert refused.exit_code == 10, refused.stderr
        (left,) = refused.events("Left the snapshot to another run that is at work on it")
        assert left["owner"] == "another run of this deployment"
    refused = second.run(files.snapshot)
    assert refused.exit_code == 10, refused.stderr
    (left,) = refused.events("Left the snapshot to another run that is at work on it")
    assert str(first.work) in left["owner"]
    brake.released.set()
    assert ended(run).exit_code == 0
    assert released_by_their_runs(first, files.snapshot)
    work_was_done_once(first, files)


def test_a_network_that_is_left_to_another_run_keeps_no_other(
    files: SnapshotFiles, clickhouse: ClickHouseServer, database_prefix: str, brake: Brake, tmp_path: Path
) -> None:
    """luigi's IngestDaily does the others, and exits 10."""
    other = Bucket(files.root).snapshot("bitcoin")
    first, _ = deployments(files, clickhouse, database_prefix, tmp_path)
    run = at_work(first, brake, files)
    del first.variables["CLICKHOUSE_HTTP_PORT"]
    daily = ["--networks", '["torus", "bitcoin"]', "--processing-date", files.snapshot.processing_date.isoformat()]
    result = first.command("luigi", "--module", "pipeline.tasks", "IngestDaily", *daily, "--local-scheduler")
    assert result.exit_code == 10, result.stderr
    work_was_done_once(first, other)
    brake.released.set()
    assert ended(run).exit_code == 0
    work_was_done_once(first, files)


def test_the_holder_is_killed(
    files: SnapshotFiles, clickhouse: ClickHouseServer, database_prefix: str, brake: Brake, tmp_path: Path
) -> None:
    """Its own rerun goes on at once, and another host when its claim was not renewed, which it says it waits for."""
    first, second = deployments(files, clickhouse, database_prefix, tmp_path)
    run = at_work(first, brake, files)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    taken = ended(second.start(*run_of(files.snapshot)))
    assert taken.exit_code == 0, taken.stderr
    (waited,) = [event for event in taken.log() if event["message"].startswith("Waiting for the claim")]
    assert str(first.work) in waited["owner"]
    assert len(first.publications(files.snapshot)) == 1
    brake.released.set()
    again = ended(first.start(*run_of(files.snapshot)))
    assert again.exit_code == 0, again.stderr
    assert again.done == ["Cleaned up"]
    first.assert_readers_see(files)


def test_the_rerun_of_a_killed_holder_goes_on_at_once(
    files: SnapshotFiles, clickhouse: ClickHouseServer, database_prefix: str, brake: Brake, tmp_path: Path
) -> None:
    """It holds the lock that the killed run held, and waits for nothing."""
    first, _ = deployments(files, clickhouse, database_prefix, tmp_path)
    run = at_work(first, brake, files)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    brake.released.set()
    rerun = ended(first.start(*run_of(files.snapshot)))
    assert rerun.exit_code == 0, rerun.stderr
    assert not any(event["message"].startswith("Waiting") for event in rerun.log())
    work_was_done_once(first, files)


def test_the_holder_stands_still_beyond_its_claim(
    files: SnapshotFiles, clickhouse: ClickHouseServer, database_prefix: str, brake: Brake, tmp_path: Path
) -> None:
    """Another host does the work; the first, when it goes on, finds it published and publishes nothing more."""
    first, second = deployments(files, clickhouse, database_prefix, tmp_path)
    run = at_work(first, brake, files)
    os.killpg(run.pid, signal.SIGSTOP)
    clock_forward(first, files.snapshot)
    assert second.run(files.snapshot).exit_code == 0
    os.killpg(run.pid, signal.SIGCONT)
    brake.released.set()
    result = ended(run)
    assert result.exit_code == 0, result.stderr
    assert result.events("Published snapshot") == []
    assert len(first.publications(files.snapshot)) == 1
    first.assert_readers_see(files)
