"""One snapshot, several runs: one does the work; the others wait, or leave with 10, and nothing is published twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from pipeline.errors import ClaimedError
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse
from pipeline.warehouse.claim_holder import Claims
from pipeline.warehouse.claims import Claimant, newest_claim
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import SECONDS, Deployment, Result, ServerReader, in_directory, run_of
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


def test_a_claim_is_renewed_and_given_back(warehouse: Warehouse) -> None:
    """It outlives its time while its run lives; another waits, and has it at once when it is given back."""
    first, second = claims_of(warehouse, FIRST, lasts=1.5, renewed_every=0.3), claims_of(warehouse, SECOND)
    first.hold(SNAPSHOT)
    time.sleep(2)
    with pytest.raises(ClaimedError, match="first:/work is at work"), second.held(SNAPSHOT):
        pass
    waited: list[bool] = []
    waiting = threading.Thread(target=lambda: waited.append(second.hold(SNAPSHOT)))
    waiting.start()
    time.sleep(0.2)
    assert waited == []
    first.release(SNAPSHOT)
    waiting.join(SECONDS)
    assert waited == [False]  # first may have done everything: that is to be seen before
    assert second.hold(SNAPSHOT)
    assert first.competing_claim(SNAPSHOT) is not None
    second.release_all()


def test_a_claim_that_is_not_renewed_runs_out(warehouse: Warehouse) -> None:
    """Another takes the snapshot over; the one that lost it neither takes it back nor gives it back."""
    lost, second = claims_of(warehouse, FIRST, lasts=0.5, renewed_every=1), claims_of(warehouse, SECOND)
    lost.hold(SNAPSHOT)
    assert not second.hold(SNAPSHOT)
    assert second.hold(SNAPSHOT)
    time.sleep(1.2)
    lost.release(SNAPSHOT)
    claim = newest_claim(warehouse, SNAPSHOT)
    assert claim is not None
    assert (claim.owner, claim.alive, claim.number) == (SECOND.owner, True, 2)
    second.release_all()


def test_a_rerun_of_the_same_deployment_does_not_wait(warehouse: Warehouse) -> None:
    """It takes over the claim of a run that was killed, and what that one gives back later is not the rerun's."""
    killed, rerun = claims_of(warehouse, FIRST), claims_of(warehouse, Claimant(FIRST.owner, "run 3"))
    killed.hold(SNAPSHOT)
    rerun.hold(SNAPSHOT)
    killed.release(SNAPSHOT)
    claim = newest_claim(warehouse, SNAPSHOT)
    assert claim is not None
    assert (claim.run_id, claim.alive) == ("run 3", True)
    rerun.release_all()


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


def test_the_holder_is_killed(
    files: SnapshotFiles, clickhouse: ClickHouseServer, database_prefix: str, brake: Brake, tmp_path: Path
) -> None:
    """While it lives, and as long as its claim does, another host leaves with 10 and says who is at work, and another
    run on its own host does, too; its own rerun goes on at once, and another host after the claim ran out.
    """
    first, second = deployments(files, clickhouse, database_prefix, tmp_path)
    run = at_work(first, brake, files)
    (left,) = first.run(files.snapshot).events("Left the snapshot to another run that is at work on it")
    assert left["owner"] == "another run of this deployment"
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    refused = second.run(files.snapshot)
    assert refused.exit_code == 10, refused.stderr
    (left,) = refused.events("Left the snapshot to another run that is at work on it")
    assert str(first.work) in left["owner"]
    brake.released.set()
    assert ended(first.start(*run_of(files.snapshot))).exit_code == 0
    work_was_done_once(first, files)
    assert second.run(files.snapshot).exit_code == 0  # nothing to do


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
