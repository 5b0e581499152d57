"""What ClickHouse's errors say to an operator."""

from __future__ import annotations

import pytest

from pipeline.clickhouse.hints import TRANSIENT
from pipeline.errors import SourceError, WarehouseError, WarehouseUnavailableError
from pipeline.sources.sot_tables import ROLE as SOT_ROLE
from pipeline.warehouse import ROLE


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (158, "max_rows_to_read"),
        (159, "max_execution_time"),
        (191, "max_rows_in_set"),
        (201, "quota of CLICKHOUSE_USER"),
        (277, "force_primary_key"),
        (307, "max_bytes_to_read"),
        (396, "max_result_rows"),
        (392, "allow_ddl"),
        (452, "sot-ingest doctor"),
        (164, "sot-ingest doctor"),
        (497, "docker/grants.sql"),
        (700, "max_sessions_for_user"),
        (9999, "ClickHouse's message says why"),
    ],
)
def test_a_hint_names_the_setting(code: int, named: str) -> None:
    """The line has ClickHouse's own message; the hint says what to change, and for whom."""
    error = ROLE.of_code(code, "DB::Exception: why", "clickhouse at db:9000")
    assert isinstance(error, WarehouseError)
    assert named in error.hint
    assert str(error) == f"clickhouse at db:9000: ClickHouse error {code}: why"
    assert isinstance(error, WarehouseUnavailableError) == (code in TRANSIENT)
    assert "{" not in error.hint


def test_a_hint_is_about_the_server_that_refused() -> None:
    """The SOT ClickHouse has a user and a file of grants of its own."""
    error = SOT_ROLE.of_code(396, "too many", "clickhouse at sot:9000")
    assert isinstance(error, SourceError)
    assert "SOT_USER" in error.hint
    assert "docs/sot.md" in SOT_ROLE.of_code(497, "no", "clickhouse at sot:9000").hint
