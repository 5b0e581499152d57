"""A day has the state that a person would give it, and is compared with the days before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.operations.report.days import compared, entry_of
from pipeline.tables import BY_NAME
from tests.support.reports import LAST, entry, publication, record

DAYS = [LAST - timedelta(days=back) for back in range(9, -1, -1)]


def test_a_day_that_was_published_twice_is_published() -> None:
    """It is no alarm; a rollback and a day that was taken away are said."""
    assert entry(LAST, [100, 101]).state.name == "published"
    assert entry(LAST, [100, 90], action="rollback").state.name == "rolled back"
    retired = entry(LAST, [100], action="retire")
    assert (retired.state.name, retired.seen, dict(retired.rows)) == ("retired", None, {})


def test_a_failure_counts_until_something_was_published_after_it() -> None:
    """Also the failure of a day that readers see something of."""
    assert entry(LAST, [99], failed="bad file").state.name == "failed"
    failed = entry(LAST, [], failed="bad file")
    assert failed.state.name == "failed"
    late = publication(failed.snapshot, datetime(2025, 8, 12, tzinfo=UTC), 5)
    records = [record(failed.snapshot, "DownloadFile", "failed", datetime(2025, 8, 11, 10, tzinfo=UTC), "bad file")]
    assert entry_of(failed.status, [late], records).failure is None


def test_a_day_that_an_audit_holds_is_held() -> None:
    """Whatever readers see of it; what holds it is said as a failure is."""
    held = entry(LAST, [99], held="few rows")
    assert held.state.name == "held"
    assert held.failure is not None
    assert held.failure.error == "few rows"
    assert entry(LAST, [99], held="few rows", failed="bad file").state.name == "held"


def test_a_run_at_work_is_no_alarm() -> None:
    """What it has not published yet is neither missing nor failed."""
    missing = entry(LAST, [])
    records = [record(missing.snapshot, "DownloadFile", "failed", datetime(2025, 8, 11, tzinfo=UTC), "bad file")]
    assert entry_of(missing.status, [], records, running=True).state.name == "running"


def test_a_drop_below_half_of_the_usual_is_marked() -> None:
    """The median of up to seven published days before decides, of three at least."""
    counts = [100, 101, 102, 103, 104, 40, 90]
    found = compared([entry(day, [count]) for day, count in zip(DAYS, counts, strict=False)])
    assert [len(day.drops) for day in found] == [0, 0, 0, 0, 0, len(BY_NAME), 0]
    assert found[5].drops[0].usual == 102
    few = compared([entry(day, [count]) for day, count in zip(DAYS, [100, 100, 1], strict=False)])
    assert [day.drops for day in few] == [(), (), ()]


def test_rows_are_compared_with_the_published_day_before() -> None:
    """Over a gap; the first day, and one after a day of no rows, have nothing to be compared with."""
    found = compared([entry(DAYS[0], [0]), entry(DAYS[1], [100]), entry(DAYS[2], []), entry(DAYS[3], [125])])
    changes = [(day.changes or {}).get("raw_alerts") for day in found]
    assert changes == [None, None, None, 0.25]


@pytest.mark.parametrize(("ready", "told"), [(timedelta(minutes=75), True), (timedelta(days=9), False)])
def test_a_day_is_ready_when_it_is_first_published(ready: timedelta, told: bool) -> None:
    """A day that was ingested weeks later says nothing of the nights; upstream's part is what its manifest says."""
    day = entry(LAST, [100, 101], ready=ready)
    assert day.ready == (ready if told else None)
    assert day.lag == (ready - timedelta(minutes=20) if told else None)
    assert day.as_dict()["ready_seconds"] == (4_500.0 if told else None)


def test_a_manifest_without_a_time_tells_nothing() -> None:
    """Nor does a record whose facts are of another form."""
    day = entry(LAST, [])
    for facts in ({}, {"generated_at": None}, {"generated_at": "yesterday"}):
        validated = record(day.snapshot, "ValidateManifest", "done", datetime(2025, 8, 11, 1, tzinfo=UTC))
        validated.facts.clear()
        validated.facts.update(facts)
        assert entry_of(day.status, [], [validated]).lag is None
