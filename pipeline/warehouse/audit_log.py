"""What audits found in loads before these were published, and what of it was accepted. Only ever appended to.

Whether loads may be published is decided by it: see :func:`is_cleared`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Literal

from pipeline.snapshot import Snapshot
from pipeline.tables import AUDITS
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION, SNAPSHOT_FILTER, snapshot_params
from pipeline.warehouse.publications import publications_by_date
from pipeline.warehouse.rows import read_row
from pipeline.warehouse.schema import ensure_table

Outcome = Literal["passed", "warned", "held", "accepted"]


@dataclass(frozen=True)
class AuditRow:
    """What came of an audit; without a name, of the snapshot."""

    audit: str
    level: str
    outcome: Outcome
    message: str  #: what was found; of a snapshot the names of the audits that hold it, or that were accepted
    compared_with: Sequence[str]  #: dates
    load_ids: Mapping[str, str]  #: by table name
    row_counts: Mapping[str, int]  #: by table name
    manifest_sha256: str
    source: str  #: URI of the manifest, its version as the fragment
    reason: str = ""
    user: str = ""
    host: str = HOST
    run_id: str = ""
    figures: str = "[]"  #: JSON
    parameters: str = "{}"  #: JSON
    recorded_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)  #: written by the warehouse, by its clock

    @property
    def names(self) -> list[str]:
        """Of a snapshot, the audits that hold it, or that were accepted."""
        return self.message.split(", ") if self.message else []


_BROUGHT = {
    **dict.fromkeys((field.name for field in fields(AuditRow) if field.name != "recorded_at"), "String"),
    "compared_with": "Array(String)",
    "load_ids": "Map(String, String)",
    "row_counts": "Map(String, UInt64)",
}
_AS_STORED = {
    "compared_with": "arrayMap(day -> toDate(day), row.compared_with)",
    "load_ids": "CAST(row.load_ids, 'Map(String, UUID)')",
}
_RECORD = f"""
    INSERT INTO {{database}}.{AUDITS}
        (processing_date, window_days, {", ".join(_BROUGHT)}, recorded_at, pipeline_version)
    SELECT
        {{processing_date:Date}},
        {{window_days:UInt16}},
        {", ".join(_AS_STORED.get(name, f"row.{name}") for name in _BROUGHT)},
        greatest(
            now64(6, 'UTC'),
            (SELECT max(recorded_at) FROM {{database}}.{AUDITS} WHERE {SNAPSHOT_FILTER}) + toIntervalMicrosecond(1)
        ),
        {{version:String}}
    FROM
    (
        SELECT arrayJoin(JSONExtract(
            {{rows:String}},
            'Array(Tuple({", ".join(f"{name} {kind}" for name, kind in _BROUGHT.items())}))'
        )) AS row
    )
"""


def record_audits(warehouse: Warehouse, snapshot: Snapshot, rows: Iterable[AuditRow]) -> None:
    """Append rows with one INSERT: all of them are there, or none. Twice the same does no harm.

    The table is made when an earlier version loaded the snapshot. Raises WarehouseError.
    """
    text = json.dumps([{name: getattr(row, name) for name in _BROUGHT} for row in rows])
    values = {**snapshot_params(snapshot), "rows": text, "version": PIPELINE_VERSION}
    try:
        warehouse.retry(lambda: warehouse.execute(_RECORD, **values))
    except MissingTableError:
        ensure_table(warehouse, AUDITS)
        warehouse.retry(lambda: warehouse.execute(_RECORD, **values))


_READ = {
    **{name: f"toString({name})" for name in ("audit", "level", "outcome")},
    "compared_with": "arrayMap(day -> toString(day), compared_with)",
    "load_ids": "CAST(load_ids, 'Map(String, String)')",
    "recorded_at": "toUnixTimestamp64Micro(recorded_at)",
}
_COLUMNS = ", ".join(_READ.get(field.name, field.name) for field in fields(AuditRow))


def audit_rows(warehouse: Warehouse, snapshot: Snapshot) -> list[AuditRow]:
    """Return what is recorded of a snapshot but the audits that passed, the oldest first; to be decided by."""
    try:
        warehouse.sync(AUDITS)
        rows = warehouse.query(
            f"""
            SELECT {_COLUMNS}
            FROM {{database}}.{AUDITS} AS a
            WHERE {SNAPSHOT_FILTER} AND (audit = '' OR outcome != 'passed')
            ORDER BY a.recorded_at, audit
            """,
            **snapshot_params(snapshot),
        )
    except MissingTableError:
        return []
    return [read_row(AuditRow, row) for row in rows]


def newest_verdicts(warehouse: Warehouse, network: str, first: date, last: date) -> dict[Snapshot, AuditRow]:
    """Return the newest row about each snapshot of the dates from ``first`` to ``last``, with one query."""
    try:
        rows = warehouse.query(
            f"""
            SELECT toString(processing_date), window_days, {_COLUMNS}
            FROM {{database}}.{AUDITS} AS a
            WHERE processing_date BETWEEN {{first:Date}} AND {{last:Date}} AND audit = ''
            ORDER BY a.recorded_at DESC
            LIMIT 1 BY processing_date, window_days
            """,
            first=first.isoformat(),
            last=last.isoformat(),
        )
    except MissingTableError:
        return {}
    return {Snapshot(network, date.fromisoformat(day), window): read_row(AuditRow, row) for day, window, *row in rows}


def is_held(verdict: AuditRow | None, published_at: datetime | None) -> bool:
    """Tell whether the newest row about a snapshot holds it, given when it was last published, if it ever was."""
    return verdict is not None and verdict.outcome == "held" and not _is_older(verdict, published_at)


def awaits_publication(verdict: AuditRow, published_at: datetime | None) -> bool:
    """Tell whether the loads of the newest row about a snapshot may still be published: they are held, or cleared."""
    return not _is_older(verdict, published_at)


def _is_older(verdict: AuditRow, published_at: datetime | None) -> bool:
    return published_at is not None and verdict.recorded_at < published_at


def held_snapshots(
    warehouse: Warehouse, network: str, first: date, last: date, window_days: int
) -> dict[Snapshot, AuditRow]:
    """Return the snapshots of the dates from ``first`` to ``last`` that are held; two queries, where one is."""
    held = {
        snapshot: verdict
        for snapshot, verdict in newest_verdicts(warehouse, network, first, last).items()
        if verdict.outcome == "held" and snapshot.window_days == window_days
    }
    if not held:
        return {}
    days = [snapshot.processing_date for snapshot in held]
    past = publications_by_date(warehouse, min(days), max(days), window_days)
    published = {day: publications[-1].published_at for day, publications in past.items()}
    return {
        snapshot: verdict
        for snapshot, verdict in held.items()
        if is_held(verdict, published.get(snapshot.processing_date))
    }


def is_cleared(rows: Iterable[AuditRow], load_ids: Mapping[str, str]) -> bool:
    """Tell whether exactly these loads may be published: no audit held them, or all that did were accepted."""
    return any(not row.audit and row.outcome != "held" and row.load_ids == load_ids for row in rows)


def accepted_audits(rows: Iterable[AuditRow], load_ids: Mapping[str, str]) -> set[str]:
    """Return the audits that were accepted for exactly these loads."""
    return {row.audit for row in rows if row.audit and row.outcome == "accepted" and row.load_ids == load_ids}
