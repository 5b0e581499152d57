"""The published days around a snapshot: what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pipeline.snapshot import Snapshot
from pipeline.tables import PUBLICATIONS
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.ledger import snapshot_params
from pipeline.warehouse.rows import read_row

ENOUGH = 3  #: days before a snapshot's; with fewer, those after it are looked at, too


@dataclass(frozen=True)
class PublishedDay:
    """What readers see of a date."""

    processing_date: date
    load_ids: Mapping[str, str]  #: by table name
    row_counts: Mapping[str, int]  #: by table name


def nearest_days(warehouse: Warehouse, snapshot: Snapshot, most: int) -> list[PublishedDay]:
    """Return what readers see of a snapshot's own day, and of up to ``most`` other days, the nearest first.

    The other days are those before it; where these are fewer than ``ENOUGH``, the nearest ones after it are added. Of
    the same network and window; one query. Days of which readers see nothing are none.
    """
    try:
        rows = warehouse.query(
            f"""
            SELECT
                toString(processing_date),
                CAST(newest.2, 'Map(String, String)'),
                newest.3
            FROM
            (
                SELECT
                    processing_date,
                    argMax((action, load_ids, row_counts), (published_at, mapValues(load_ids))) AS newest
                FROM {{database}}.{PUBLICATIONS}
                WHERE window_days = {{window_days:UInt16}}
                GROUP BY processing_date
            )
            WHERE newest.1 != 'retire'
            ORDER BY abs(processing_date - {{processing_date:Date}}), processing_date
            LIMIT {{most:UInt8}} BY sign(processing_date - {{processing_date:Date}})
            """,
            **snapshot_params(snapshot),
            most=most,
        )
    except MissingTableError:
        return []
    days = [read_row(PublishedDay, row) for row in rows]
    before = [day for day in days if day.processing_date < snapshot.processing_date]
    after = [day for day in days if day.processing_date > snapshot.processing_date]
    left_out = after[max(most - len(before), 0) :] if len(before) < ENOUGH else after
    return [day for day in days if day not in left_out]
