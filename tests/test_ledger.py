"""The ledger's rows about one load count by when they were true, in whichever order the warehouse runs the INSERTs."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from pipeline.warehouse.ledger import Entry, record, recorded
from pipeline.warehouse.schema import ensure_schema
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import a_day
from tests.support.warehouses import on_server

DAY = a_day()


def test_an_end_counts_though_the_start_arrives_after_it(clickhouse: ClickHouseServer) -> None:
    """An interrupted client leaves its first row to the server, which may run it after the one about the end."""
    started = Entry(
        processing_date=DAY.processing_date,
        window_days=DAY.window_days,
        table_name="raw_alerts",
        load_id=str(uuid4()),
        state="started",
        started_at=datetime(2025, 8, 2, tzinfo=UTC),
        manifest_sha256="",
        file_name="alerts.parquet",
        file_sha256="",
        file_bytes=1,
        proof="sha256",
        superseded_by="",
        source="",
    )
    with on_server(clickhouse) as made:
        warehouse = made.new()
        ensure_schema(warehouse)
        record(warehouse, started.now("failed", error="interrupted"))
        record(warehouse, started)
        assert recorded(warehouse, DAY)[started.load_id].state == "failed"
