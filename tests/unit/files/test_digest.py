"""pipeline.files.digest: what is the same on every server must have one form."""

from __future__ import annotations

from pipeline.files.digest import content_digest
from pipeline.tables import BY_NAME
from tests.support.clickhouse import ClickHouseServer


def test_a_digest_has_16_digits(clickhouse: ClickHouseServer) -> None:
    """ClickHouse's hex() leaves leading zeros out: of 2,000 rows it would, and of none at all."""
    table = BY_NAME["raw_alerts"]
    digest = content_digest(table, {column.name: "number" for column in table.file_columns})
    answer = clickhouse.http(f"SELECT {digest} FROM numbers(2000) GROUP BY number")
    digests = answer.split()
    assert {len(each) for each in digests} == {16}
    assert any(each.startswith("00") for each in digests)
    assert clickhouse.http(f"SELECT {digest} FROM numbers(0)").strip() == "0" * 16
