"""The log of steps: what each step of each run did, or why it could not. Only ever appended to, and best effort.

Nothing is decided by it: what is done is what the ledger, the publications and the work directory prove.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from pipeline.snapshot import Snapshot
from pipeline.tables import STEPS
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION
from pipeline.warehouse.many import ask_together
from pipeline.warehouse.rows import micros, read_row
from pipeline.warehouse.schema import ensure_table

StepState = Literal["done", "failed", "held", "missing"]

LONGEST = 2_000  #: characters of an error or a hint


@dataclass(frozen=True)
class StepRecord:
    """What a step of a run did."""

    snapshot: Snapshot
    step: str  #: the task's name, for example LoadTable
    table: str  #: empty when the step is about the snapshot
    state: StepState  #: held: an audit found something; missing: the source has no such snapshot
    started_at: datetime  #: UTC
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)  #: of its log event
    error: str = ""
    hint: str = ""
    run_id: str = ""
    host: str = HOST

    @property
    def title(self) -> str:
        """The step and its table, for people."""
        return f"{self.step} {self.table}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it; see :func:`step_of`."""
        values = {name: value for name, value in vars(self).items() if name != "snapshot"}
        return {**self.snapshot.as_dict(), **values, "started_at": self.started_at.isoformat()}


def step_of(values: dict[str, Any]) -> StepRecord:
    """Return the record that :meth:`StepRecord.as_dict` was called on. Raises KeyError, TypeError, ValueError."""
    values = dict(values)
    day = date.fromisoformat(values.pop("processing_date"))
    snapshot = Snapshot(values.pop("network"), day, values.pop("window_days"))
    return StepRecord(snapshot, started_at=datetime.fromisoformat(values.pop("started_at")), **values)


#: The columns that a record brings, with the types that they are read from JSON as.
_BROUGHT = {
    "processing_date": "Date",
    "window_days": "UInt16",
    "step": "String",
    "table_name": "String",
    "state": "String",
    "started_at": "Int64",
    "seconds": "Float64",
    "facts": "String",
    "error": "String",
    "hint": "String",
    "run_id": "String",
    "host": "String",
}
_KEY = ("processing_date", "window_days", "run_id", "step", "table_name", "started_at")
_AS_STORED = {"started_at": "fromUnixTimestamp64Micro(row.started_at, 'UTC')"}
_RECORD = f"""
    INSERT INTO {{database}}.{STEPS} ({", ".join(_BROUGHT)}, recorded_at, pipeline_version)
    SELECT {", ".join(_AS_STORED.get(name, f"row.{name}") for name in _BROUGHT)}, now64(6, 'UTC'), {{version:String}}
    FROM
    (
        SELECT arrayJoin(JSONExtract(
            {{rows:String}},
            'Array(Tuple({", ".join(f"{name} {kind}" for name, kind in _BROUGHT.items())}))'
        )) AS row
    )
    WHERE ({", ".join(_AS_STORED.get(name, f"row.{name}") for name in _KEY)}) NOT IN
    (
        SELECT {", ".join(_KEY)} FROM {{database}}.{STEPS} WHERE has(splitByChar(',', {{run_ids:String}}), run_id)
    )
"""


def insert_records(warehouse: Warehouse, *records: StepRecord) -> None:
    """Append records with one INSERT, tried once; the table is made when it is missing. Raises WarehouseError.

    One that is there is not appended again: its run may have been killed, or its answer lost, before it was known.
    That a run looked for a network's snapshots and found none is no reason to make a database.
    """
    if not records:
        return
    values = {
        "rows": json.dumps([_row(each) for each in records]),
        "run_ids": ",".join({each.run_id for each in records}),
        "version": PIPELINE_VERSION,
    }
    try:
        warehouse.execute(_RECORD, **values)
    except MissingTableError:
        if all(each.state == "missing" for each in records):
            return
        ensure_table(warehouse, STEPS)
        warehouse.execute(_RECORD, **values)


def _row(each: StepRecord) -> dict[str, Any]:
    return {
        "processing_date": each.snapshot.processing_date.isoformat(),
        "window_days": each.snapshot.window_days,
        "step": each.step,
        "table_name": each.table,
        "state": each.state,
        "started_at": micros(each.started_at),
        "seconds": each.seconds,
        "facts": json.dumps(each.facts, default=str),
        "error": each.error[:LONGEST],
        "hint": each.hint[:LONGEST],
        "run_id": each.run_id,
        "host": each.host,
    }


_SELECT = f"""
    SELECT
        toString(processing_date),
        toString(step),
        toString(table_name),
        toString(state),
        toUnixTimestamp64Micro(started_at),
        toString(seconds),
        facts,
        error,
        hint,
        run_id,
        host
    FROM {{database}}.{STEPS}
    WHERE processing_date BETWEEN {{first:Date}} AND {{last:Date}} AND window_days = {{window_days:UInt16}}
    ORDER BY started_at, recorded_at
    LIMIT 1 BY processing_date, run_id, step, table_name, started_at  -- two runs may have sent what a third one left
"""


def step_records(warehouse: Warehouse, network: str, first: date, last: date, window_days: int) -> list[StepRecord]:
    """Return the records of the dates from ``first`` to ``last``, the oldest first; none when there is no table."""
    try:
        rows = warehouse.query(_SELECT, first=first.isoformat(), last=last.isoformat(), window_days=window_days)
    except MissingTableError:
        return []
    return [read_row(StepRecord, row, Snapshot(network, date.fromisoformat(day), window_days)) for day, *row in rows]


_TROUBLES = f"""
    SELECT {{number}}, count()
    FROM {{database}}.{STEPS}
    WHERE processing_date BETWEEN {{first:Date}} AND {{last:Date}} AND window_days = {{window_days:UInt16}}
        AND state != 'done'
"""


def count_troubles(warehouses: Mapping[str, Warehouse], first: date, last: date, window_days: int) -> dict[str, int]:
    """Return by network how many steps of some days were not done: one statement a server.

    Networks that cannot be asked together are left out: see :func:`pipeline.warehouse.many.ask_together`.
    """
    asked = ask_together(
        warehouses,
        _TROUBLES,
        (STEPS,),
        first=first.isoformat(),
        last=last.isoformat(),
        window_days=window_days,
    )
    return {network: count for network, ((count,),) in asked.items()}
