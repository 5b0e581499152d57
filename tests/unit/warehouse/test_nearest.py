"""Which published days a snapshot is compared with."""

from __future__ import annotations

import json
from datetime import date

from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse
from pipeline.warehouse.nearest import nearest_days


def publish(warehouse: Warehouse, day: int, rows: int, *, action: str = "publish", window: int = 195) -> None:
    """Append a publication of a day of August."""
    warehouse.execute(
        "INSERT INTO {database}.sot_publications "
        "(processing_date, window_days, publication_id, action, load_ids, row_counts, published_at) "
        "SELECT {day:Date}, {window:UInt16}, generateUUIDv7(), {action:String}, map('raw_alerts', generateUUIDv7()), "
        "JSONExtract({rows:String}, 'Map(String, UInt64)'), now64(6)",
        day=f"2025-08-{day:02}",
        window=window,
        action=action,
        rows=json.dumps({"raw_alerts": rows}),
    )


def compared(warehouse: Warehouse, day: int, most: int = 7) -> dict[int, int]:
    """Return the rows of each day that a day of August is compared with, the nearest first."""
    found = nearest_days(warehouse, Snapshot("torus", date(2025, 8, day), 195), most)
    return {each.processing_date.day: each.row_counts["raw_alerts"] for each in found}


def test_the_nearest_days_before_are_taken(warehouse: Warehouse) -> None:
    """As readers see them: the newest publication of each, none of a retired day, none of another window."""
    assert compared(warehouse, 10) == {}
    for day in (2, 4, 5, 6, 9, 20):
        publish(warehouse, day, day)
    publish(warehouse, 9, 99)
    publish(warehouse, 6, 6, action="retire")
    publish(warehouse, 8, 8, window=30)
    assert list(compared(warehouse, 10, 3).items()) == [(9, 99), (5, 5), (4, 4)]
    assert list(compared(warehouse, 30).items()) == [(20, 20), (9, 99), (5, 5), (4, 4), (2, 2)]


def test_days_after_fill_up_what_is_missing_before(warehouse: Warehouse) -> None:
    """Where fewer than three days are before: all by their distance, of equal ones the day before first."""
    for day in (1, 22, 23, 24, 25):
        publish(warehouse, day, day)
    assert list(compared(warehouse, 21)) == [22, 23, 24, 25, 1]
    assert list(compared(warehouse, 21, 4)) == [22, 23, 24, 1]
    assert list(compared(warehouse, 21, 1)) == [1]
    publish(warehouse, 20, 20)
    assert list(compared(warehouse, 21)) == [20, 22, 23, 24, 25, 1]
    publish(warehouse, 2, 2)
    assert list(compared(warehouse, 21)) == [20, 2, 1]


def test_what_readers_see_of_the_day_itself_is_the_nearest(warehouse: Warehouse) -> None:
    """Beside as many other days as ever, unless it was retired."""
    for day in (7, 8, 9, 10, 11):
        publish(warehouse, day, day)
    publish(warehouse, 10, 100)
    assert list(compared(warehouse, 10, 2).items()) == [(10, 100), (9, 9), (8, 8)]
    publish(warehouse, 10, 0, action="retire")
    assert list(compared(warehouse, 10, 2)) == [9, 8]
