"""Claims: which deployment is at work on a snapshot. Compare-and-set over an append-only table.

A claim keeps two hosts from doing the same work twice. It does not keep readers safe: loads are stored under ids of
their own and publications compare with their predecessor, so a claim that is lost costs work, never rows.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import date, datetime

from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import CLAIMS
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.ledger import SNAPSHOT_FILTER, snapshot_params
from pipeline.warehouse.rows import micros, read_row
from pipeline.warehouse.schema import ensure_claims

#: Seconds that a claim lasts, and between two renewals of it: a host may miss two of them. The first is also how long
#: the claim of a run that was killed keeps other hosts out.
LASTS_SECONDS, RENEWED_EVERY_SECONDS = 30.0, 8.0

#: Seconds by which the clocks of replicas may differ: for so long after its end a claim may still be renewed by another
#: clock. Whether it is, its number says to who watches it for as long as a claim lasts.
CLOCKS_APART = 600

#: How often to claim before giving up: another claim came first each time.
_TRIES = 10


@dataclass(frozen=True)
class Claimant:
    """The run that claims. A claim is its run's: no other run renews or releases it."""

    owner: str  #: the deployment, host:work path
    run_id: str
    locked: bool = False  #: it holds a lock that all runs of its owner need, so another of them has ended


@dataclass(frozen=True)
class Claim:
    """The newest claim of a snapshot."""

    number: int  #: counted from 1 for each snapshot
    owner: str
    run_id: str
    claimed_at: datetime  #: UTC, by the server's clock, later than that of the claim before
    alive: bool  #: by the server's clock
    doubtful: bool  #: ended by the clock of a replica, and may be alive by that of another one
    released: bool  #: given back, not run out

    def is_of(self, who: Claimant) -> bool:
        """Tell whether this very run made the claim."""
        return (self.owner, self.run_id) == (who.owner, who.run_id)

    def keeps_out(self, who: Claimant) -> bool:
        """Tell whether another run is at work, as far as a claim can tell."""
        is_held = self.alive or self.doubtful
        return is_held and not self.is_of(who) and not (who.locked and self.owner == who.owner)


def newest_claim(warehouse: Warehouse, snapshot: Snapshot) -> Claim | None:
    """Return the claim that counts, alive or not, or None when there never was one. Raises WarehouseError."""
    try:
        rows = warehouse.query(
            f"""
            SELECT
                number, owner, run_id, toUnixTimestamp64Micro(claimed_at), until > now64(6),
                until > claimed_at AND until BETWEEN now64(6) - {{apart:UInt32}} AND now64(6), until <= claimed_at
            FROM {{database}}.{CLAIMS}
            WHERE {SNAPSHOT_FILTER}
            ORDER BY number DESC
            LIMIT 1
            """,
            **snapshot_params(snapshot),
            apart=CLOCKS_APART if warehouse.is_replicated else 0,
        )
    except MissingTableError:
        return None
    return read_row(Claim, rows[0]) if rows else None


@dataclass(frozen=True)
class Work:
    """A run that is at work on a snapshot."""

    processing_date: date
    owner: str
    run_id: str
    since: datetime  #: UTC, of the run's first claim


def work_under_way(warehouse: Warehouse, window_days: int) -> list[Work]:
    """Return the claims that are alive, the oldest date first, with one query. Raises WarehouseError."""
    try:
        rows = warehouse.query(
            f"""
            SELECT
                toString(processing_date),
                argMax(owner, number),
                argMax(run_id, number) AS run,
                toUnixTimestamp64Micro(arrayMin(
                    arrayMap(claim -> claim.2, arrayFilter(claim -> claim.1 = run, groupArray((run_id, claimed_at))))
                ))
            FROM {{database}}.{CLAIMS}
            WHERE window_days = {{window_days:UInt16}}
            GROUP BY processing_date
            HAVING argMax(until, number) > now64(6)
            ORDER BY processing_date
            """,
            window_days=window_days,
        )
    except MissingTableError:
        return []
    return [read_row(Work, row) for row in rows]


def _effective_claim(warehouse: Warehouse, snapshot: Snapshot) -> Claim | None:
    """Return the same, to be decided by."""
    with contextlib.suppress(MissingTableError):
        warehouse.sync(CLAIMS)
    return newest_claim(warehouse, snapshot)


def take_claim(
    warehouse: Warehouse, snapshot: Snapshot, who: Claimant, seconds: float = LASTS_SECONDS, *, unrenewed: int = 0
) -> Claim:
    """Claim a snapshot unless another run has it; return the claim that is alive. Raises WarehouseError.

    ``unrenewed`` is the number of a claim that was watched for as long as one lasts: it has ended, whatever clocks say.
    """
    for attempt in range(_TRIES):
        current = _effective_claim(warehouse, snapshot)
        if current and current.alive and current.is_of(who):
            return current
        if current and current.keeps_out(who) and current.number != unrenewed:
            return current
        _claim_after(warehouse, snapshot, current, who, seconds, attempt)
    raise WarehouseError(
        f"{CLAIMS}: ClickHouse takes no claim of {snapshot}",
        hint="see its log, and that the table has the setting non_replicated_deduplication_window",
    )


def renew_claim(
    warehouse: Warehouse, snapshot: Snapshot, who: Claimant, seconds: float = LASTS_SECONDS
) -> Claim | None:
    """Claim for longer what this run has; return the claim that counts, another's when ours was lost.

    Raises WarehouseError.
    """
    current = _effective_claim(warehouse, snapshot)
    if current is None or current.released or not current.is_of(who):
        return current
    _claim_after(warehouse, snapshot, current, who, seconds)
    return _effective_claim(warehouse, snapshot)


def release_claim(warehouse: Warehouse, snapshot: Snapshot, who: Claimant) -> None:
    """Give a snapshot back if this run has it. Raises WarehouseError."""
    current = _effective_claim(warehouse, snapshot)
    if current and current.is_of(who) and not current.released:
        _claim_after(warehouse, snapshot, current, who, seconds=0)


def _claim_after(
    warehouse: Warehouse, snapshot: Snapshot, current: Claim | None, who: Claimant, seconds: float, attempt: int = 0
) -> None:
    """Append a claim that takes effect only if it is the first that follows ``current``, and that is later than it.

    A server that was killed may have kept the token and not the row: the next attempt has another token.
    """
    number = current.number if current else 0
    statement = f"""
        INSERT INTO {{database}}.{CLAIMS}
            (processing_date, window_days, number, owner, run_id, claimed_at, until)
        SETTINGS insert_deduplicate = 1, insert_deduplication_token = {{token:String}}
        SELECT
            {{processing_date:Date}},
            {{window_days:UInt16}},
            {{number:UInt64}},
            {{owner:String}},
            {{run_id:String}},
            greatest(now64(6, 'UTC'), fromUnixTimestamp64Micro({{after:Int64}}, 'UTC')) AS claimed_at,
            claimed_at + toIntervalMillisecond({{milliseconds:UInt32}})
    """
    values = {
        **snapshot_params(snapshot),
        "number": number + 1,
        "after": micros(current.claimed_at) + 1 if current else 0,
        "owner": who.owner,
        "run_id": who.run_id,
        "milliseconds": round(seconds * 1000),
        "token": f"{snapshot} after {number} #{attempt}",
    }
    try:
        warehouse.execute(statement, **values)
    except MissingTableError:
        ensure_claims(warehouse)
        warehouse.execute(statement, **values)
