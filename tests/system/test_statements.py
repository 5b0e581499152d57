"""How often a run asks the warehouse: a night of many networks, or a backfill, is made of small snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import IN_ONE_PROCESS, Deployment, ServerReader, a_day, in_directory

pytestmark = pytest.mark.usefixtures("audited")

#: Of a snapshot whose tables are there; what its steps did is recorded once a second.
MOST_SELECTS = 46
MOST_WITH_NOTHING_TO_DO = 4

#: Of a run over three networks with nothing to do: one is asked alone, the others together.
MOST_OF_THREE = 8


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


def test_statements_of_a_run_over_networks_with_nothing_to_do(
    samples: Path, server_reader: ServerReader, clickhouse: ClickHouseServer, tmp_path: Path
) -> None:
    """As many for three networks as for thirty."""
    deployment = Deployment(in_directory(samples), server_reader, tmp_path)
    run = ("sot-ingest", "run", "--date", "2025-08-01", "--scheduler", "local", *IN_ONE_PROCESS)
    assert deployment.command(*run).exit_code == 0
    queries = counted(clickhouse, "Query")
    result = deployment.command(*run)
    assert (result.exit_code, result.done) == (0, [])
    assert counted(clickhouse, "Query") - queries - 1 <= MOST_OF_THREE
