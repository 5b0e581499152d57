"""What the rows of loads are, computed where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.files.digest import content_digest
from pipeline.snapshot import Snapshot
from pipeline.tables import Column, Table
from pipeline.warehouse import Warehouse
from pipeline.warehouse.ledger import PARTITION_FILTER, partition_params


def measure_load(warehouse: Warehouse, snapshot: Snapshot, table: Table, load_id: str) -> tuple[int, int, str]:
    """Return how many rows a load has, how many keys they have, and the digest of their content.

    As many hashes of keys as rows say that no key is there twice; fewer may be keys with one hash, and are counted.
    """
    key, of_load = ", ".join(table.key), f"FROM {{database}}.{table.loads} WHERE {PARTITION_FILTER}"
    parameters = partition_params(snapshot, load_id)
    ((row_count, keys, digest),) = warehouse.query(
        f"SELECT count(), uniqExact(cityHash64({key})), {content_digest(table)} {of_load}", **parameters
    )
    if keys != row_count:
        ((keys,),) = warehouse.query(f"SELECT uniqExact({key}) {of_load}", **parameters)
    return int(row_count), int(keys), str(digest)


def differences(
    warehouse: Warehouse, snapshot: Snapshot, table: Table, load_id: str, other_id: str
) -> tuple[int, int, list[str]]:
    """Compare two loads row by row, as multisets.

    Returns how many rows only the first has, how many only the other, and a few keys of such rows.
    """
    columns = ", ".join(column.name for column in table.file_columns)
    ((ours, theirs, keys),) = warehouse.query(
        f"""
        SELECT sum(greatest(surplus, 0)), sum(greatest(-surplus, 0)), arraySort(groupUniqArray(3)(row_key))
        FROM
        (
            SELECT
                toString(any(tuple({", ".join(table.key)}))) AS row_key,
                toInt64(countIf(load_id = {{load_id:UUID}})) - toInt64(countIf(load_id = {{other_id:UUID}})) AS surplus
            FROM {{database}}.{table.loads}
            WHERE processing_date = {{processing_date:Date}} AND window_days = {{window_days:UInt16}}
                AND load_id IN ({{load_id:UUID}}, {{other_id:UUID}})
            GROUP BY
                cityHash64({columns}),
                xxHash64({columns})
            HAVING surplus != 0
        )
        """,
        **partition_params(snapshot, load_id),
        other_id=other_id,
    )
    return int(ours), int(theirs), list(keys)


@dataclass(frozen=True)
class Movement:
    """How far the amount of one thing moved."""

    identity: str
    before: float
    after: float


@dataclass(frozen=True)
class TableChanges:
    """How the rows of one load of a table differ from those of another."""

    rows_before: int
    rows_after: int
    added: int  #: things that only the later load has
    removed: int  #: things that only the earlier load has
    changed: int  #: things that both have, with at least one other value
    columns: Mapping[str, int]  #: of the changed things, how many have another value there; the most first
    movements: tuple[Movement, ...]  #: the largest of the amount, in either direction


def changes_between(
    warehouse: Warehouse,
    table: Table,
    before: tuple[Snapshot, str],
    after: tuple[Snapshot, str],
    *,
    amount: str,
    most: int,
) -> TableChanges:
    """Compare two loads, each given with its snapshot, thing by thing; one query. Raises WarehouseError.

    Things of one snapshot are the same when their key is; those of two dates when :attr:`Table.identity` is, and then
    ids that contain the date do not count as changed. Of several things with one identity the first of each date, by
    its key, are compared with each other, then the second, and so on. ``amount`` is a column whose ``most`` largest
    movements are returned, or ''. A join in parallel that keeps the later load in memory was the fastest way for
    1,000,000 features rows; to group by the address took three times as long.
    """
    same_snapshot = before[0] == after[0]
    identity = table.key if same_snapshot else table.identity or table.key
    left_out = {*identity, *table.snapshot_columns, *(() if same_snapshot else table.dated_columns)}
    columns = [column for column in table.file_columns if column.name not in left_out]
    differs = [_differs(column) for column in columns]
    was, now = (f"toFloat64({side}.{amount})" if amount else "toFloat64(0)" for side in ("old", "new"))
    joined = identity if identity == table.key else (*identity, "place")
    thing = f"concatWithSeparator(' ', {', '.join(f'toString(new.{name})' for name in identity)})"
    statement = f"""
        SELECT
            {_count("old")},
            {_count("new")},
            count(),
            countIf({" OR ".join(differs)}),
            [{", ".join(f"countIf({condition})" for condition in differs)}],
            arrayMap(
                moved -> (moved.2, toString(moved.3), toString(moved.4)),
                groupArraySortedIf({most})(
                    (-abs({now} - {was}), {thing}, {was}, {now}),
                    {now} != {was} AND isFinite({now} - {was})
                )
            )
        FROM {_rows(table, "old", joined)} AS old
        INNER JOIN {_rows(table, "new", joined)} AS new ON {" AND ".join(f"old.{name} = new.{name}" for name in joined)}
        SETTINGS join_algorithm = 'parallel_hash'
    """.replace("{loads}", f"{{database}}.{table.loads}")
    ((rows_before, rows_after, both, changed, by_column, movements),) = warehouse.query(
        statement, **_side("old", *before), **_side("new", *after)
    )
    counts = sorted(
        zip((column.name for column in columns), map(int, by_column), strict=True), key=lambda each: -each[1]
    )
    return TableChanges(
        rows_before=int(rows_before),
        rows_after=int(rows_after),
        added=int(rows_after) - int(both),
        removed=int(rows_before) - int(both),
        changed=int(changed),
        columns={name: count for name, count in counts if count},
        movements=tuple(Movement(thing, float(was), float(now)) for thing, was, now in movements),
    )


def _count(side: str) -> str:
    return f"(SELECT count() FROM {{loads}} WHERE {_where(side)})"


def _rows(table: Table, side: str, joined: tuple[str, ...]) -> str:
    """Return the rows of a load; where they are not joined by their key, each with its place among those alike."""
    columns = [column.name for column in table.file_columns]
    if joined != table.key:
        alike = ", ".join(name for name in joined if name != "place")
        columns.append(f"row_number() OVER (PARTITION BY {alike} ORDER BY {', '.join(table.key)}) AS place")
    return f"(SELECT {', '.join(columns)} FROM {{loads}} WHERE {_where(side)})"


def _where(side: str) -> str:
    return (
        f"processing_date = {{{side}_date:Date}} AND window_days = {{{side}_window:UInt16}} "
        f"AND load_id = {{{side}_load:UUID}}"
    )


def _differs(column: Column) -> str:
    """Return the condition that a column has another value; NaN equals NaN."""
    differs = f"old.{column.name} != new.{column.name}"
    if column.type.startswith("Float"):
        return f"({differs} AND NOT (isNaN(old.{column.name}) AND isNaN(new.{column.name})))"
    return f"({differs})"


def _side(name: str, snapshot: Snapshot, load_id: str) -> dict[str, Any]:
    return {
        f"{name}_date": snapshot.processing_date.isoformat(),
        f"{name}_window": snapshot.window_days,
        f"{name}_load": load_id,
    }
