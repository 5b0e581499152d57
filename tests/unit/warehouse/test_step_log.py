"""The log of steps: what is recorded is read back, from a server and from the embedded ClickHouse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from pipeline.snapshot import Snapshot
from pipeline.warehouse.schema import ensure_schema
from pipeline.warehouse.step_log import StepRecord, insert_records, step_of, step_records
from tests.support import warehouses
from tests.support.warehouses import Databases

SNAPSHOT = Snapshot("torus", date(2025, 8, 1), 195)
DONE = StepRecord(
    SNAPSHOT,
    step="LoadTable",
    table="raw_alerts",
    state="done",
    started_at=datetime(2025, 8, 2, 1, 0, 0, 123_456, UTC),
    seconds=1.25,
    facts={"rows": 30, "load_id": "0198", "note": "tab\there, 'quoted', \"twice\", \\ and ü"},
    run_id="a",
)
FAILED = replace(
    DONE, state="failed", facts={}, error="no {brace} or\nline harms", hint="look", started_at=datetime.now(UTC)
)


@pytest.fixture(scope="module", params=["server", "embedded"])
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Both warehouses."""
    if request.param == "embedded":
        with warehouses.embedded(tmp_path_factory.mktemp("embedded")) as made:
            yield made
    else:
        with warehouses.on_server(request.getfixturevalue("clickhouse")) as made:
            yield made


def read(warehouse: Any, first: str = "2025-08-01", last: str = "2025-08-01") -> list[StepRecord]:
    """Return what is recorded of the days."""
    return step_records(warehouse, "torus", date.fromisoformat(first), date.fromisoformat(last), 195)


def test_records_come_back_as_they_went(databases: Databases) -> None:
    """Every field, to the microsecond; the table is made when it is missing, and only the days asked for answer."""
    warehouse = databases.new()
    assert read(warehouse) == []
    other_day = replace(DONE, snapshot=replace(SNAPSHOT, processing_date=date(2025, 7, 31)))
    insert_records(warehouse, FAILED, DONE)
    insert_records(warehouse, other_day)
    assert read(warehouse) == [DONE, FAILED]
    assert read(warehouse, "2025-07-01") == [DONE, other_day, FAILED]
    ensure_schema(warehouse)  # takes the table as its own


def test_a_record_sent_twice_counts_once(databases: Databases) -> None:
    """After a lost answer nobody knows whether it arrived."""
    warehouse = databases.new()
    insert_records(warehouse, DONE)
    insert_records(warehouse, DONE, FAILED)
    assert read(warehouse) == [DONE, FAILED]


def test_a_record_survives_json() -> None:
    """As it waits in a file, and as it travels to the end of the run."""
    assert step_of(DONE.as_dict()) == DONE
