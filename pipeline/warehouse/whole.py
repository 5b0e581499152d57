"""Whether this user sees every row: what a row policy or a filter hides must not pass for what is not there."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from pipeline.errors import WarehouseError
from pipeline.tables import AUDITS, CLAIMS, LEDGER, PUBLICATIONS, STEPS, TABLES
from pipeline.warehouse import MissingTableError, Warehouse

#: The tables whose rows are decided by.
DECIDED_BY = (LEDGER, PUBLICATIONS, AUDITS, CLAIMS, STEPS, *(table.loads for table in TABLES))

#: Rows that come and go while they are counted explain a difference once, not every time.
_LOOKS = 3


def require_all_rows(warehouse: Warehouse, existing: Collection[str] = DECIDED_BY) -> None:
    """Raise WarehouseError when rows of a table are hidden from this user; nothing may be decided then.

    ``existing`` names the tables that are there, as far as that is known.
    """
    if problems := list(hidden_rows(warehouse, existing)):
        raise WarehouseError(
            f"{warehouse.uri}: {'; '.join(problems)}",
            hint="let the pipeline's user see all rows: DROP the row policy on the table for it, and the filter in its "
            "profile; nothing was changed",
        )


def hidden_rows(warehouse: Warehouse, existing: Collection[str] = DECIDED_BY) -> Iterator[str]:
    """Yield which tables have rows that this user does not see.

    The rows that a query counts are compared with those that the parts have, which no policy changes.
    """
    with contextlib.suppress(MissingTableError):
        if _are_all_seen(warehouse, [name for name in DECIDED_BY if name in existing]):
            return
    found: dict[str, tuple[int, int]] = {}
    for _ in range(_LOOKS):
        before = _stored(warehouse)
        seen = _seen(warehouse, list(before))
        if all(seen[name] >= rows for name, rows in before.items()):
            return
        after = _stored(warehouse)
        stored = {name: min(rows, after.get(name, 0)) for name, rows in before.items()}
        found = {name: (seen[name], rows) for name, rows in stored.items() if seen[name] < rows}
        if not found:
            return
    for name, (rows, stored_rows) in found.items():
        yield f"{rows:,} of {stored_rows:,} rows of {name} are seen: a row policy or a filter hides the others"


def _are_all_seen(warehouse: Warehouse, names: Sequence[str]) -> bool:
    """Compare with one query; False also when rows come or go meanwhile."""
    if not names:
        return True
    counts = "".join(f"table.1 = '{name}', (SELECT count() FROM {{database}}.{name}), " for name in names)
    ((is_so,),) = warehouse.query(
        f"""
        WITH
            (
                SELECT groupArray((name, assumeNotNull(total_rows)))
                FROM system.tables
                WHERE database = {{name:String}} AND total_rows > 0 AND has(splitByChar(',', {{names:String}}), name)
            ) AS stored
        SELECT toUInt8(arrayAll(table -> table.2 <= multiIf({counts} 0), stored))
        SETTINGS apply_deleted_mask = 0
        """,
        name=warehouse.database,
        names=",".join(names),
    )
    return bool(is_so)


def _stored(warehouse: Warehouse) -> dict[str, int]:
    """Return how many rows the parts of each table have, by its name."""
    rows = warehouse.query(
        """
        SELECT name, toString(total_rows)
        FROM system.tables
        WHERE database = {name:String} AND total_rows > 0 AND has(splitByChar(',', {names:String}), name)
        """,
        name=warehouse.database,
        names=",".join(DECIDED_BY),
    )
    return {name: int(count) for name, count in rows}


def _seen(warehouse: Warehouse, names: list[str]) -> dict[str, int]:
    """Count the rows of tables, with those that DELETE has marked and parts still have."""
    if not names:
        return {}
    counts = ", ".join(f"toString((SELECT count() FROM {{database}}.{name}))" for name in names)
    ((*found,),) = warehouse.query(f"SELECT {counts} SETTINGS apply_deleted_mask = 0")
    return {name: int(count) for name, count in zip(names, found, strict=True)}
