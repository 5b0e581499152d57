"""How often a run asks the warehouse: a night of many networks, or a backfill, is made of small snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, ServerReader, a_day, in_directory

pytestmark = pytest.mark.usefixtures("audited")

#: Of a snapshot whose tables are there; what its steps did is recorded once a second.
MOST_SELECTS = 50
MOST_WITH_NOTHING_TO_DO = 4


def counted(server: ClickHouseServer, event: str) -> int:
    """Return ClickHouse's own counter."""
    return int(server.http(f"SELECT sum(value) FROM system.events WHERE event = '{event}'"))


def test_statements_of_a_run(
    samples: Path, server_reader: ServerReader, clickhouse: ClickHouseServer, tmp_path: Path
) -> None:
    """The first snapshot makes the tables; counted are the second, and the same again."""
    deployment = Deployment(in_directory(samples), server_reader, tmp_path)
    first, second = a_day("2025-08-01"), a_day("2025-08-02")
    assert deployment.run(first).exit_code == 0
    selects, failed = counted(clickhouse, "SelectQuery"), counted(clickhouse, "FailedQuery")
    assert deployment.run(second).exit_code == 0
    assert counted(clickhouse, "FailedQuery") == failed
    assert counted(clickhouse, "SelectQuery") - selects - 2 <= MOST_SELECTS  # without these questions
    queries = counted(clickhouse, "Query")
    assert deployment.run(second).exit_code == 0
    assert counted(clickhouse, "Query") - queries - 1 <= MOST_WITH_NOTHING_TO_DO
