"""Which runs are at work."""

from __future__ import annotations

from datetime import date, timedelta

from pipeline.snapshot import Snapshot
from pipeline.tables import CLAIMS
from pipeline.warehouse import Warehouse
from pipeline.warehouse.claims import Claimant, newest_claim, release_claim, renew_claim, take_claim, work_under_way

FIRST, SECOND = (Snapshot("torus", date(2025, 8, day), 195) for day in (1, 2))


def test_work_under_way_is_what_is_claimed(warehouse: Warehouse) -> None:
    """Since the run's first claim, however often it was renewed; not what was released, or has another window."""
    assert work_under_way(warehouse, 195) == []
    ended, running = Claimant("host:/work", "run-1"), Claimant("host:/work", "run-2")
    take_claim(warehouse, FIRST, ended)
    release_claim(warehouse, FIRST, ended)
    assert work_under_way(warehouse, 195) == []
    take_claim(warehouse, FIRST, running)
    first = newest_claim(warehouse, FIRST)
    assert first is not None
    renew_claim(warehouse, FIRST, running)
    take_claim(warehouse, SECOND, ended)
    release_claim(warehouse, SECOND, ended)
    take_claim(warehouse, Snapshot("torus", date(2025, 8, 3), 7), running)
    (work,) = work_under_way(warehouse, 195)
    assert (work.processing_date, work.owner, work.run_id) == (FIRST.processing_date, "host:/work", "run-2")
    assert work.since == first.claimed_at


def test_a_claim_is_later_than_the_one_before(warehouse: Warehouse) -> None:
    """Whatever the clock says that it is made by: the one before was made by a clock that is an hour ahead."""
    take_claim(warehouse, FIRST, Claimant("other:/work", "run-1"))
    ahead = "number + 1 AS number, claimed_at + 3600 AS claimed_at, until + 3600 AS until"
    warehouse.execute(f"INSERT INTO {{database}}.{CLAIMS} SELECT * REPLACE ({ahead}) FROM {{database}}.{CLAIMS}")
    before = newest_claim(warehouse, FIRST)
    assert before is not None
    ours = take_claim(warehouse, FIRST, Claimant("host:/work", "run-2"), unrenewed=before.number)
    assert (ours.owner, ours.alive) == ("host:/work", True)
    assert ours.claimed_at == before.claimed_at + timedelta(microseconds=1)
