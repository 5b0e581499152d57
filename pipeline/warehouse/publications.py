"""What is published of each snapshot, as the table of publications says it: readers see the newest of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import LEDGER, PUBLICATIONS
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.many import ask_together
from pipeline.warehouse.rows import read_row
from pipeline.warehouse.schema import check_schema

Action = Literal["publish", "rollback", "retire"]

ALL_DAYS = (date(1970, 1, 1), date(2149, 6, 6))  #: the first and the last that a Date holds

#: The publication_id of a link where nothing was published yet.
NOTHING = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(frozen=True)
class Publication:
    """What readers see of a snapshot, or saw until the next publication."""

    processing_date: date
    window_days: int
    publication_id: str  #: UUID
    action: Action
    manifest_sha256: str
    load_ids: Mapping[str, str]  #: by table name
    row_counts: Mapping[str, int]  #: by table name
    source: str  #: URI of the manifest, its version as the fragment
    published_at: datetime  #: UTC
    published_by: str  #: host
    run_id: str  #: of the run that published it
    forgotten: bool = False  #: an operator asked later to load at least one of its tables again
    links: int = field(default=0, compare=False)  #: rows that repeat it: see pipeline.warehouse.link

    def is_of(self, uri: str, sha256: str) -> bool:
        """Tell whether it shows a manifest; two with one URI are the same, for the URI has the version in it.

        The SOT ClickHouse has no manifest of its own: hosts that export the same rows write different ones.
        """
        return uri == self.source or sha256 == self.manifest_sha256

    def covers(self, tables: Iterable[str]) -> bool:
        """Tell whether it names all of these tables, or an operator chose it as it is."""
        return self.action == "rollback" or self.load_ids.keys() >= set(tables)


_COLUMNS = """
        toString(processing_date),
        window_days,
        toString(publication_id),
        toString(action),
        manifest_sha256,
        CAST(load_ids, 'Map(String, String)'),
        row_counts,
        source,
        toUnixTimestamp64Micro(published_at),
        published_by,
        run_id"""

_OF_DAYS = "processing_date BETWEEN {first:Date} AND {last:Date} AND window_days = {window_days:UInt16}"

_PUBLICATIONS = f"""
    WITH
        (
            SELECT CAST((groupArray(load_id), groupArray(forgotten_at)), 'Map(UUID, DateTime64(6, \\'UTC\\'))')
            FROM
            (
                SELECT load_id, max(recorded_at) AS forgotten_at
                FROM {{database}}.{LEDGER}
                WHERE {_OF_DAYS} AND state = 'forgotten'
                GROUP BY load_id
            )
        ) AS forgotten
    SELECT{_COLUMNS},
        toUInt8(arrayExists(load_id -> forgotten[load_id] > published_at, mapValues(load_ids))),
        count() OVER (PARTITION BY processing_date, publication_id, mapValues(load_ids)) - 1
    FROM {{database}}.{PUBLICATIONS} AS p
    WHERE {_OF_DAYS} AND publication_id != toUUID('{NOTHING}')
    ORDER BY
        processing_date,
        (p.published_at, mapValues(p.load_ids))  -- as the views choose
    LIMIT 1 BY p.processing_date, p.publication_id, mapValues(p.load_ids)
"""


#: For many databases in one statement: each publication with how many loads an operator asked to load again.
_OF_MANY = f"""
    SELECT
        {{number}},{_COLUMNS},
        (SELECT count() FROM {{database}}.{LEDGER} WHERE {_OF_DAYS} AND state = 'forgotten')
    FROM {{database}}.{PUBLICATIONS}
    WHERE {_OF_DAYS} AND publication_id != toUUID('{NOTHING}')
"""


def publications_by_date(
    warehouse: Warehouse, first: date, last: date, window_days: int, *, sync: bool = False
) -> dict[date, list[Publication]]:
    """Return the publications of each date from ``first`` to ``last``, the oldest first, with one query.

    Readers see the last one, of replicas sooner or later. Dates without any are left out. With ``sync`` none is
    missing that another replica has: what is decided by them needs it.
    """
    try:
        if sync:
            warehouse.sync(PUBLICATIONS, LEDGER)
        rows = warehouse.query(_PUBLICATIONS, first=first.isoformat(), last=last.isoformat(), window_days=window_days)
    except MissingTableError:
        return {}
    except WarehouseError as error:
        if "ClickHouse error 47:" in str(error):  # UNKNOWN_IDENTIFIER
            check_schema(warehouse)  # says what to do about a table of an earlier version
        raise
    found: dict[date, list[Publication]] = {}
    for row in rows:
        publication = read_row(Publication, row)
        found.setdefault(publication.processing_date, []).append(publication)
    return found


def visible_publications(warehouse: Warehouse, first: date, last: date, window_days: int) -> list[Publication]:
    """Return what readers see of each date from ``first`` to ``last``, with one query.

    Dates of which they see nothing are left out, those that were retired among them.
    """
    newest_ones = [history[-1] for history in publications_by_date(warehouse, first, last, window_days).values()]
    return [publication for publication in newest_ones if publication.action != "retire"]


def find_publication(warehouse: Warehouse, publication_id: str) -> tuple[date, int] | None:
    """Return the processing date and the window of a publication, or None when there is no such one."""
    try:
        rows = warehouse.query(
            f"""
            SELECT toString(processing_date), window_days
            FROM {{database}}.{PUBLICATIONS}
            WHERE publication_id = {{publication_id:UUID}}
            LIMIT 1
            """,
            publication_id=publication_id,
        )
    except MissingTableError:
        return None
    return (date.fromisoformat(rows[0][0]), int(rows[0][1])) if rows else None


def publications_of(warehouse: Warehouse, snapshot: Snapshot) -> list[Publication]:
    """Return the publications of a snapshot, the oldest first, to be decided by; readers see the last one."""
    day = snapshot.processing_date
    return publications_by_date(warehouse, day, day, snapshot.window_days, sync=True).get(day, [])


def publications_of_many(warehouses: Mapping[Snapshot, Warehouse]) -> dict[Snapshot, list[Publication]]:
    """Return the publications of snapshots of one date and window, each given with its warehouse, of which one is told.

    One statement a server tells those that were published once or never, and that no operator asked to load again:
    nearly all, and for half of what :func:`publications_of` costs the server. The others are left out, and those that
    cannot be asked together.
    """
    if not warehouses:
        return {}
    day = next(iter(warehouses)).processing_date.isoformat()
    window_days = next(iter(warehouses)).window_days
    asked = ask_together(warehouses, _OF_MANY, (PUBLICATIONS, LEDGER), first=day, last=day, window_days=window_days)
    return {
        snapshot: [read_row(Publication, (*row[:-1], 0, 0)) for row in rows]
        for snapshot, rows in asked.items()
        if not rows or (len(rows) == 1 and not rows[0][-1])
    }


def newest_publication(warehouse: Warehouse, snapshot: Snapshot) -> Publication | None:
    """Return what readers see of the snapshot, or None."""
    return next(reversed(publications_of(warehouse, snapshot)), None)


def effective_publications(past: Sequence[Publication], tables: Iterable[str]) -> list[Publication]:
    """Return the publications whose manifests a run need not publish, given all of a snapshot, the oldest first.

    That is the newest; after a rollback it is every one before it too, for an operator did not want what they show.
    There is none when an operator asked to load again since, when the day was retired (a run for it brings it back), or
    when one of ``tables``, those that are ingested now, is not in it.
    """
    if not past or past[-1].forgotten or past[-1].action == "retire" or not past[-1].covers(tables):
        return []
    return list(past[::-1]) if past[-1].action == "rollback" else [past[-1]]


def newest_date_publication(warehouse: Warehouse, window_days: int) -> Publication | None:
    """Return what readers see of the newest date that is published, or None."""
    return next(iter(visible_publications(warehouse, *ALL_DAYS, window_days)[-1:]), None)
