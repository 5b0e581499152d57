"""What the rows of loads are, computed where they are."""

from __future__ import annotations

from pipeline.files.digest import content_digest
from pipeline.snapshot import Snapshot
from pipeline.tables import Table
from pipeline.warehouse import Warehouse
from pipeline.warehouse.ledger import PARTITION_FILTER, partition_params


def measure_load(warehouse: Warehouse, snapshot: Snapshot, table: Table, load_id: str) -> tuple[int, int, str]:
    """Return how many rows a load has, how many keys they have, and the digest of their content."""
    ((row_count, keys, digest),) = warehouse.query(
        f"""
        SELECT count(), uniqExact({", ".join(table.key)}), {content_digest(table)}
        FROM {{database}}.{table.loads}
        WHERE {PARTITION_FILTER}
        """,
        **partition_params(snapshot, load_id),
    )
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
