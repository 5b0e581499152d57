"""What people are told about a run, and that no service's URL gets into a log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from loguru import logger

from pipeline.runs.notify import Message, message_about, send_message
from pipeline.runs.outcome import Outcome, last_states, refusal
from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import StepRecord
from tests.support.receiver import Receiver

TORUS, BITCOIN = (Snapshot(network, date(2025, 8, 1), 195) for network in ("torus", "bitcoin"))
PUBLISHED = StepRecord(
    TORUS,
    step="PublishSnapshot",
    table="",
    state="done",
    started_at=datetime(2025, 8, 2, 1, 0, tzinfo=UTC),
    seconds=0.5,
    facts={"raw_alerts": 30, "raw_features": 1_000, "manifest_sha256": "ab"},
    run_id="second",
)
FAILED = replace(
    PUBLISHED, step="LoadTable", table="raw_alerts", state="failed", facts={}, error="it broke", hint="mend it"
)
MISSING = replace(FAILED, step="FindSnapshot", table="", state="missing", error="no snapshots/…", hint="wait")
WELL = Outcome(
    exit_code=0,
    run_id="second",
    started_at=datetime(2025, 8, 2, 1, 0, tzinfo=UTC),
    seconds=12.0,
    asked=(TORUS,),
    records=(PUBLISHED,),
    host="db1",
)


def message(outcome: Outcome, *, on_success: bool = False, when_missing: bool = True) -> Message:
    """Return the message about a run, which there is."""
    found = message_about(outcome, on_success=on_success, when_missing=when_missing)
    assert found is not None
    return found


def test_a_failure_names_all_that_one_must_know() -> None:
    """Host, network, date, step, cause, hint; of another network of the run that it was published."""
    other = replace(PUBLISHED, snapshot=BITCOIN)
    told = message(replace(WELL, exit_code=30, asked=(BITCOIN, TORUS), records=(other, FAILED)))
    assert (told.kind, told.title) == ("failure", "sot-ingest failed: torus 2025-08-01")
    assert told.body.splitlines() == [
        "torus 2025-08-01: LoadTable raw_alerts failed after 0.5 s",
        "  cause: it broke",
        "  hint: mend it",
        "bitcoin 2025-08-01: published, 1,030 rows",
        "",
        "host db1, exit code 30 (a step failed), 2025-08-02 01:00 UTC, 12 s, run second",
    ]


def test_a_snapshot_that_is_held_is_not_called_failed() -> None:
    """Unless a step of another one failed."""
    held = replace(FAILED, step="AuditSnapshot", table="", state="held", error="held by a: 1; held by b: 2")
    told = message(replace(WELL, exit_code=30, records=(held,)))
    assert (told.kind, told.title) == ("failure", "sot-ingest held: torus 2025-08-01")
    assert told.body.splitlines()[:2] == [
        "torus 2025-08-01: loaded, and held by an audit",
        "  cause: held by a: 1; held by b: 2",
    ]
    both = message(replace(WELL, exit_code=30, records=(held, replace(FAILED, snapshot=BITCOIN))))
    assert both.title == "sot-ingest failed: bitcoin, torus 2025-08-01"


def test_a_run_that_failed_without_a_step_tells_its_cause() -> None:
    """For example without luigid."""
    told = message(replace(WELL, exit_code=40, records=(), cause="luigid does not answer", hint="start it"))
    assert told.title == "sot-ingest failed: torus 2025-08-01"
    assert "  cause: luigid does not answer\n  hint: start it" in told.body


def of_days(record: StepRecord, days: int, error: str = "{snapshot} is gone") -> tuple[StepRecord, ...]:
    """Return a record for each day of August and network, with what an error says of it."""
    snapshots = [
        Snapshot(network, date(2025, 8, day), 195) for day in range(1, days + 1) for network in ("bitcoin", "torus")
    ]
    return tuple(
        replace(record, snapshot=each, error=error.format(snapshot=each, day=each.processing_date.day))
        for each in snapshots
    )


def test_many_failures_fit_into_a_message() -> None:
    """Ten are told in full, the others counted."""
    told = message(replace(WELL, exit_code=30, records=of_days(FAILED, 12, "{snapshot}, {day} rows")))
    assert told.body.count("cause:") == 10
    assert "and 4 more" in told.body


def test_equal_causes_are_told_once() -> None:
    """Of a backfill, with networks and days; another step, or other words, is another cause."""
    records = (*of_days(MISSING, 20), *of_days(FAILED, 1), replace(FAILED, error="it broke otherwise"))
    told = message(replace(WELL, exit_code=30, records=records))
    assert told.body.splitlines()[:-2] == [
        "bitcoin, torus 2025-08-01 to 2025-08-20: no snapshot, 40 alike, here that of bitcoin 2025-08-01",
        "  cause: bitcoin/2025-08-01/195 is gone",
        "  hint: wait",
        "bitcoin 2025-08-01: LoadTable raw_alerts failed after 0.5 s",
        "  cause: bitcoin/2025-08-01/195 is gone",
        "  hint: mend it",
        "torus 2025-08-01: LoadTable raw_alerts failed after 0.5 s",
        "  cause: it broke otherwise",
        "  hint: mend it",
    ]
    assert len(told.body) < 600


def test_a_step_that_was_done_in_the_end_is_no_failure() -> None:
    """It was tried again; the message is about the others."""
    again = replace(FAILED, state="done")
    told = message(replace(WELL, exit_code=30, records=(FAILED, again, replace(FAILED, snapshot=BITCOIN))))
    assert told.title == "sot-ingest failed: bitcoin 2025-08-01"
    assert told.body.count("cause:") == 1


def test_a_success_is_told_after_a_failure_or_if_asked() -> None:
    """Else it is silent, and so is a run with nothing to do."""
    assert message_about(WELL, on_success=False, when_missing=True) is None
    told = message(replace(WELL, recovered=(TORUS,)))
    assert (told.kind, told.title) == ("success", "sot-ingest recovered: torus 2025-08-01")
    assert "torus 2025-08-01: published, 1,030 rows; the run before had not succeeded" in told.body
    assert message(WELL, on_success=True).title == "sot-ingest done: torus 2025-08-01"
    assert message_about(replace(WELL, records=()), on_success=True, when_missing=True) is None


def test_a_missing_snapshot_is_told_unless_unwanted() -> None:
    """As a warning; NOTIFY_MISSING=false is for those who look before upstream is usually done."""
    outcome = replace(WELL, exit_code=20, records=(MISSING,))
    told = message(outcome)
    assert (told.kind, told.title) == ("warning", "sot-ingest found no snapshot: torus 2025-08-01")
    assert message_about(outcome, on_success=True, when_missing=False) is None


@pytest.mark.parametrize("exit_code", [2, 10])
def test_a_run_that_started_nothing_is_silent(exit_code: int) -> None:
    """Another run tells, or somebody reads what was wrong with the command line."""
    assert message_about(replace(WELL, exit_code=exit_code, records=()), on_success=True, when_missing=True) is None


def test_the_newest_run_decides_whether_there_was_a_failure() -> None:
    """And in it what came last of each step."""
    again = replace(FAILED, state="done")
    before = replace(FAILED, run_id="first")
    assert last_states([]) == set()
    assert last_states([before, PUBLISHED]) == {"done"}
    assert last_states([before, PUBLISHED, FAILED]) == {"done", "failed"}
    assert last_states([FAILED, again, PUBLISHED]) == {"done"}


def test_programs_are_told_what_people_are() -> None:
    """What was published, by its ids, and the first step that failed; of a run that started nothing the same fields."""
    other = replace(
        PUBLISHED, snapshot=BITCOIN, facts={"raw_alerts": 5, "publication_id": "id", "manifest_sha256": "cd"}
    )
    run = message(replace(WELL, exit_code=30, about=("bitcoin", "torus"), records=(other, FAILED))).run
    assert run is not None
    assert (run["networks"], run["dates"]) == (["bitcoin", "torus"], ["2025-08-01"])
    assert (run["published"], run["publication_ids"]) == (["bitcoin 2025-08-01"], ["id"])
    assert (run["manifest_sha256s"], run["rows"]) == (["cd"], {"raw_alerts": 5})
    assert (run["failed"], run["failed_step"]) == (["LoadTable raw_alerts of torus 2025-08-01"], "LoadTable raw_alerts")
    assert refusal(2).as_dict().keys() == run.keys()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The lines of the log, with all that it may ever show."""
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), level="DEBUG", format="{message} {extra}")
    yield lines
    logger.remove(handler)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A messenger."""
    with Receiver().running() as running:
        yield running


def test_services_that_do_not_take_a_message_are_named(receiver: Receiver, log: list[str]) -> None:
    """The others get it; the log tells which by number and kind, and holds neither URL nor token."""
    refusing: dict[str, Any] = {"body": "text", "title": "title", "kind": "failure"}
    urls = (
        f"{receiver.environment['NOTIFY_URLS']}, nothing://secret-token jsons://127.0.0.1:{receiver.port}/secret-token"
    )
    failed = send_message(urls, Message(**refusing))
    assert [(sent["title"], sent["message"], sent["type"]) for sent in receiver.messages] == [
        ("title", "text", "failure")
    ]
    assert failed == ["service 2 of NOTIFY_URLS (nothing)", "service 3 of NOTIFY_URLS (jsons)"]
    assert [line.partition(" {")[0] for line in log] == [f"Could not send the message to {name}" for name in failed]
    assert "secret" not in "".join(log)
