"""What became of each attempt to load a file: the ledger, read for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pipeline.snapshot import Snapshot
from pipeline.tables import LEDGER
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.rows import read_row


@dataclass(frozen=True)
class LoadAttempt:
    """An attempt and its newest state."""

    snapshot: Snapshot
    table: str
    load_id: str  #: UUID
    state: str  #: started (at work, or killed), loaded, failed, forgotten
    started_at: datetime  #: UTC
    recorded_at: datetime  #: UTC
    rows: int
    bytes: int  #: of the file
    error: str
    host: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it, without the snapshot."""
        values = {name: value for name, value in vars(self).items() if name != "snapshot"}
        return {**values, "started_at": self.started_at.isoformat(), "recorded_at": self.recorded_at.isoformat()}


_SELECT = f"""
    SELECT
        toString(processing_date),
        toString(table_name),
        toString(load_id),
        toString(state),
        toUnixTimestamp64Micro(started_at),
        toUnixTimestamp64Micro(recorded_at),
        row_count,
        file_bytes,
        error,
        host
    FROM {{database}}.{LEDGER}
    WHERE processing_date BETWEEN {{first:Date}} AND {{last:Date}} AND window_days = {{window_days:UInt16}}
    ORDER BY recorded_at DESC
    LIMIT 1 BY load_id
"""


def load_attempts(warehouse: Warehouse, network: str, first: date, last: date, window_days: int) -> list[LoadAttempt]:
    """Return every attempt of the dates from ``first`` to ``last``, the newest first; none when there is no ledger."""
    try:
        rows = warehouse.query(_SELECT, first=first.isoformat(), last=last.isoformat(), window_days=window_days)
    except MissingTableError:
        return []
    return [read_row(LoadAttempt, row, Snapshot(network, date.fromisoformat(day), window_days)) for day, *row in rows]
