"""A link of the chain of publications after which readers see what they saw: what was decided before it is void.

Who removes loads appends one after the ledger says that they are collected. A publication that was decided before, and
may name one of them, then follows upon a place that is taken: it looks into the ledger again.
"""

from __future__ import annotations

from uuid import uuid4

from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import PUBLICATIONS, columns_of
from pipeline.warehouse import Warehouse
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION, SNAPSHOT_FILTER, snapshot_params
from pipeline.warehouse.publications import NOTHING, Publication, publications_of
from pipeline.warehouse.publish import TRIES, token_after

#: What a link is where it is not what the publication is that it repeats.
_OWN = {"published_at": "published_at + toIntervalMicrosecond(1)", "run_id": "{link_id:String}"}
#: The same where nothing was published yet: a row that shows readers nothing.
_OWN_OF_NOTHING = {
    "processing_date": "{processing_date:Date}",
    "window_days": "{window_days:UInt16}",
    "publication_id": "{publication_id:UUID}",
    "action": "'retire'",
    "load_ids": "CAST(map(), 'Map(String, UUID)')",
    "row_counts": "CAST(map(), 'Map(String, UInt64)')",
    "published_at": "now64(6, 'UTC')",
    "published_by": "{host:String}",
    "run_id": "{link_id:String}",
    "pipeline_version": "{pipeline_version:String}",
}


def append_link(warehouse: Warehouse, snapshot: Snapshot, after: Publication | None) -> bool:
    """Append a link after what was the newest publication; tell whether it still was. Raises WarehouseError."""
    link_id = uuid4().hex
    for generation in range(TRIES):
        _insert(warehouse, snapshot, after, link_id, token_after(snapshot, after, generation))
        past = publications_of(warehouse, snapshot)
        if past and (after is None or past[-1].publication_id != after.publication_id):
            return False
        if _is_there(warehouse, snapshot, link_id):
            return True
    raise WarehouseError(
        f"{PUBLICATIONS}: ClickHouse takes no link of {snapshot}; nothing was removed",
        hint="see its log, and that the table has the setting non_replicated_deduplication_window",
    )


def _insert(warehouse: Warehouse, snapshot: Snapshot, after: Publication | None, link_id: str, token: str) -> None:
    names = [column.name for column in columns_of(PUBLICATIONS)]
    newest = f"""
        FROM {{database}}.{PUBLICATIONS} AS p
        WHERE {SNAPSHOT_FILTER} AND publication_id = {{publication_id:UUID}}
        ORDER BY p.published_at DESC
        LIMIT 1
    """
    own = _OWN if after else {**dict.fromkeys(names, "''"), **_OWN_OF_NOTHING}
    warehouse.execute(
        f"""
        INSERT INTO {{database}}.{PUBLICATIONS} ({", ".join(names)})
        SETTINGS insert_deduplicate = 1, insert_deduplication_token = {{token:String}}
        SELECT {", ".join(own.get(name, name) for name in names)}
        {newest if after else ""}
        """,
        **snapshot_params(snapshot),
        publication_id=after.publication_id if after else NOTHING,
        link_id=link_id,
        host=HOST,
        pipeline_version=PIPELINE_VERSION,
        token=token,
    )


def _is_there(warehouse: Warehouse, snapshot: Snapshot, link_id: str) -> bool:
    rows = warehouse.query(
        f"SELECT 1 FROM {{database}}.{PUBLICATIONS} WHERE {SNAPSHOT_FILTER} AND run_id = {{link_id:String}}",
        **snapshot_params(snapshot),
        link_id=link_id,
    )
    return bool(rows)
