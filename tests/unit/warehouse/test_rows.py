"""What rows of queries are read as, and ids that are made of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from pipeline.warehouse.rows import time_ordered_id

NOON = datetime(2025, 8, 1, 12, tzinfo=UTC)


def test_ids_are_ordered_by_their_times() -> None:
    """Of version 7: milliseconds since 1970, then chance."""
    ids = [UUID(time_ordered_id(NOON + timedelta(milliseconds=count))) for count in range(100)]
    assert ids == sorted(ids)
    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}
    assert [each.int >> 80 for each in ids] == [round(NOON.timestamp() * 1000) + count for count in range(100)]
    assert len({time_ordered_id(NOON) for _ in range(1000)}) == 1000
