"""Publishing: which load of each table readers see from now on. One single-row INSERT flips all tables together.

A publication follows upon the one that was the newest when it was decided, and says so: of several that follow upon
the same one, whoever makes them and wherever, exactly one takes effect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pipeline.errors import WarehouseError, WarehouseUnavailableError
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, LEDGER, PUBLICATIONS
from pipeline.warehouse import Warehouse
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION, SNAPSHOT_FILTER, snapshot_params, stored_rows
from pipeline.warehouse.publications import Publication, effective_publications, publications_of
from pipeline.warehouse.rows import time_ordered_id
from pipeline.warehouse.whole import require_all_rows

#: How often to publish before giving up: another publication came first each time.
TRIES = 10


def publish_loads(
    warehouse: Warehouse,
    snapshot: Snapshot,
    *,
    manifest_sha256: str,
    source: str,
    loads: Mapping[str, tuple[str, int]],
    run_id: str,
    is_upstreams: Callable[[str, str], bool],
    past: Sequence[Publication] | None = None,
) -> Publication:
    """Make readers see these loads, ``(load_id, row count)`` by table name; return what they see then.

    Does nothing when the manifest was published already, by whomever, nor when it is not the one at the source any
    more and a newer run was faster; ``is_upstreams`` tells, of a manifest's URI and SHA-256, whether it is. ``past``
    are the publications that were read to decide this, if any were. Raises WarehouseError when a load's rows are not
    all there.
    """
    wanted = Publication(
        processing_date=snapshot.processing_date,
        window_days=snapshot.window_days,
        publication_id=new_id(warehouse),
        action="publish",
        manifest_sha256=manifest_sha256,
        load_ids={name: load_id for name, (load_id, _) in loads.items()},
        row_counts={name: rows for name, (_, rows) in loads.items()},
        source=source,
        published_at=datetime.now(UTC),
        published_by=HOST,
        run_id=run_id,
    )
    require_rows(warehouse, snapshot, wanted, hint="run again: the table is loaded again")
    past = publications_of(warehouse, snapshot) if past is None else past
    known = len(past)
    for _ in range(TRIES):
        since = [publication for publication in past[known:] if publication.covers(loads)]
        if any(each.is_of(source, manifest_sha256) for each in (*effective_publications(past, loads), *since)):
            return past[-1]
        if past and not past[-1].is_of(source, manifest_sha256) and _is_late(wanted, past, is_upstreams):
            return past[-1]
        if (published := publish_after(warehouse, snapshot, wanted, after=past[-1] if past else None)) is not None:
            return published
        past = publications_of(warehouse, snapshot)
    raise WarehouseUnavailableError(
        f"{PUBLICATIONS}: others published {snapshot} {TRIES} times before we could",
        hint="see who publishes it: sot-ingest status, and published_by in sot_publications",
    )


def _is_late(wanted: Publication, past: Sequence[Publication], is_upstreams: Callable[[str, str], bool]) -> bool:
    """Tell whether readers see what upstream published after ``wanted``, in all of its tables.

    Not when an operator asked to load that again: the SOT ClickHouse holds the same day under another manifest as soon
    as its labels change.
    """
    seen = past[-1]
    if not seen.forgotten and seen.covers(wanted.load_ids) and is_upstreams(seen.source, seen.manifest_sha256):
        return True
    was_seen = any(publication.is_of(wanted.source, wanted.manifest_sha256) for publication in past)
    return (was_seen or seen.forgotten) and not is_upstreams(wanted.source, wanted.manifest_sha256)


def new_id(warehouse: Warehouse) -> str:
    """Return an id for a publication; later ones are greater."""
    return time_ordered_id(warehouse.now())


def require_rows(warehouse: Warehouse, snapshot: Snapshot, publication: Publication, *, hint: str) -> None:
    """Raise WarehouseError unless all rows of a publication's loads are there, and stay there."""
    loads = publication.load_ids
    if not loads:
        return
    warehouse.sync(LEDGER, *(BY_NAME[name].loads for name in loads))
    ((gone, stored),) = warehouse.query(
        f"""
        SELECT
            arrayMap(load_id -> toString(load_id), ({_COLLECTED})),
            (SELECT groupArray((toString(load_id), stored_rows)) FROM ({stored_rows(loads)}))
        """,
        **snapshot_params(snapshot),
    )
    if removed := set(gone) & set(loads.values()):
        raise WarehouseError(f"{snapshot}: load {min(removed)} was collected; not published", hint=hint)
    found_rows = {load_id: int(count) for load_id, count in stored}
    for name, load_id in loads.items():
        if (found := found_rows.get(load_id, 0)) != (rows := publication.row_counts[name]):
            raise WarehouseError(
                f"{BY_NAME[name].loads}: load {load_id} has {found:,} rows, {rows:,} were loaded; not published",
                hint=hint,
            )


def collected(warehouse: Warehouse, snapshot: Snapshot) -> set[str]:
    """Return the loads that are removed, or about to be."""
    rows = warehouse.query(f"SELECT toString(arrayJoin(({_COLLECTED})))", **snapshot_params(snapshot))
    return {id_ for (id_,) in rows}


#: A load that was forgotten after it was collected is gone all the same.
_COLLECTED = f"""
    SELECT groupArray(load_id)
    FROM
    (
        SELECT load_id
        FROM {{database}}.{LEDGER}
        WHERE {SNAPSHOT_FILTER}
        GROUP BY load_id
        HAVING argMaxIf(state, recorded_at, state != 'forgotten') = 'collected'
    )
"""


def publish_after(
    warehouse: Warehouse, snapshot: Snapshot, wanted: Publication, *, after: Publication | None
) -> Publication | None:
    """Publish upon ``after``, the newest when this was decided; None when another publication came first.

    The warehouse gives ``published_at``, later than that of every other. A token can be used up without a publication
    (the row was removed since, or the server was killed between the two): then there is another for the same place.
    Raises WarehouseError when publications are hidden from this user.
    """
    require_all_rows(warehouse)
    warehouse.sync(LEDGER)  # after the last publication was read: who collects loads writes the ledger, then a link
    for generation in range(TRIES):
        token = token_after(snapshot, after, generation)
        warehouse.retry(lambda token=token: _insert(warehouse, wanted, token))  # type: ignore[misc]  # bound at once
        now = publications_of(warehouse, snapshot)
        ours = [publication for publication in now if publication.publication_id == wanted.publication_id]
        if ours:
            return ours[0]
        if now and (after is None or now[-1].publication_id != after.publication_id):
            return None
        require_rows(warehouse, snapshot, wanted, hint="its loads were collected meanwhile: run again")
    raise WarehouseError(
        f"{PUBLICATIONS}: ClickHouse takes no publication of {snapshot}",
        hint="see its log, and that the table has the setting non_replicated_deduplication_window",
    )


def token_after(snapshot: Snapshot, after: Publication | None, generation: int) -> str:
    """Return what a row says that it follows upon; of several rows that say the same, ClickHouse stores one.

    The first generation of a publication comes after all links that were known when it was decided.
    """
    if after is None:
        return f"{snapshot} after nothing #{generation}"
    return f"{snapshot} after {after.publication_id} #{after.links + generation}"


def _insert(warehouse: Warehouse, wanted: Publication, token: str) -> None:
    """Append one row, newer than every other of its snapshot whatever the clock says, if the token is a new one.

    So it may be tried again when an answer was lost. Nothing is appended when a load is marked as collected, for its
    rows are about to go.
    """
    warehouse.execute(
        f"""
        INSERT INTO {{database}}.{PUBLICATIONS}
            (processing_date, window_days, publication_id, action, manifest_sha256, load_ids, row_counts, source,
             published_at, published_by, run_id, pipeline_version)
        SETTINGS insert_deduplicate = 1, insert_deduplication_token = {{token:String}}
        SELECT
            {{processing_date:Date}},
            {{window_days:UInt16}},
            {{publication_id:UUID}},
            {{action:String}},
            {{manifest_sha256:String}},
            CAST(JSONExtract({{load_ids:String}}, 'Map(String, String)'), 'Map(String, UUID)') AS named,
            JSONExtract({{row_counts:String}}, 'Map(String, UInt64)'),
            {{source:String}},
            greatest(
                now64(6, 'UTC'),
                (
                    SELECT max(published_at)
                    FROM {{database}}.{PUBLICATIONS}
                    WHERE {SNAPSHOT_FILTER}
                ) + toIntervalMicrosecond(1)
            ),
            {{published_by:String}},
            {{run_id:String}},
            {{pipeline_version:String}}
        WHERE NOT hasAny(mapValues(named), ({_COLLECTED}))
        """,
        token=token,
        processing_date=wanted.processing_date.isoformat(),
        window_days=wanted.window_days,
        publication_id=wanted.publication_id,
        action=wanted.action,
        manifest_sha256=wanted.manifest_sha256,
        load_ids=json.dumps(dict(wanted.load_ids)),
        row_counts=json.dumps(dict(wanted.row_counts)),
        source=wanted.source,
        published_by=wanted.published_by,
        run_id=wanted.run_id,
        pipeline_version=PIPELINE_VERSION,
    )
