"""What differs between two publications of a network: of two dates, or of one date at two times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import RequestError
from pipeline.graph.context import Context
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, TABLES
from pipeline.warehouse.compare import TableChanges, changes_between
from pipeline.warehouse.publications import Publication, publications_of
from pipeline.warehouse.publish import collected, require_rows

MOST = 10  #: movements of a table that are shown


@dataclass(frozen=True)
class Difference:
    """What readers saw before, what they see after, and how the tables differ."""

    network: str
    before: Publication
    after: Publication
    tables: Mapping[str, TableChanges]  #: by table; those that both publications have
    amounts: Mapping[str, str]  #: by table, the column whose movements are listed

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            "network": self.network,
            "before": _side(self.before),
            "after": _side(self.after),
            "tables": {
                name: {**asdict(changes), "amount": self.amounts[name] or None} for name, changes in self.tables.items()
            },
        }


def _side(publication: Publication) -> dict[str, Any]:
    return {
        "processing_date": publication.processing_date.isoformat(),
        "window_days": publication.window_days,
        "publication_id": publication.publication_id,
        "action": publication.action,
        "published_at": publication.published_at.isoformat(),
        "rows": dict(publication.row_counts),
    }


def choose_publications(
    context: Context, snapshots: tuple[Snapshot, ...], ids: tuple[str, ...]
) -> tuple[Publication, Publication]:
    """Return the earlier and the later publication to compare.

    Of two snapshots the newest of each. Of one snapshot those with the two ``ids``; with one id that and the newest;
    without ids the newest and the one before it. Raises RequestError when there is no such publication, or when readers
    see nothing of a newest one.
    """
    if len(snapshots) == 2:
        before, after = (_visible(context, snapshot)[-1] for snapshot in snapshots)
        return before, after
    past = _visible(context, snapshots[0], is_newest_asked=len(ids) < 2)
    if ids:
        chosen = sorted((_named(snapshots[0], past, id_) for id_ in ids), key=lambda each: each.published_at)
        return (chosen[0], chosen[-1] if len(ids) > 1 else past[-1])
    if len(past) < 2:
        raise RequestError(
            f"{snapshots[0]} was published once: nothing to compare with",
            hint="name a second --date, or see sot-ingest status",
        )
    return past[-2], past[-1]


def _visible(context: Context, snapshot: Snapshot, *, is_newest_asked: bool = True) -> list[Publication]:
    past = publications_of(context.warehouse(snapshot.network), snapshot)
    shown = [publication for publication in past if publication.load_ids]
    if not shown:
        raise RequestError(f"{snapshot} is not published", hint="sot-ingest status shows what there is")
    if is_newest_asked and shown[-1] is not past[-1]:
        raise RequestError(
            f"{snapshot} was retired: readers see no row of it", hint="sot-ingest status shows what there is"
        )
    return shown


def _named(snapshot: Snapshot, past: list[Publication], id_: str) -> Publication:
    found = next((each for each in past if each.publication_id == id_.lower()), None)
    if found is None:
        there = ", ".join(f"{each.publication_id} ({each.published_at:%Y-%m-%d %H:%M} UTC)" for each in reversed(past))
        raise RequestError(f"{snapshot} has no publication {id_}", hint=f"there are: {there}")
    return found


def compare_publications(
    context: Context, network: str, before: Publication, after: Publication, amount: str | None
) -> Difference:
    """Compare the tables of two publications, one query a table.

    ``amount`` names the column whose largest movements are listed, in the tables that have it; by default each table's
    own. Raises RequestError when no table has such a column of numbers or gc removed a publication's rows, and
    WarehouseError when rows are missing for another reason.
    """
    amounts = _amounts(amount)
    warehouse = context.warehouse(network)
    sides = [(Snapshot(network, each.processing_date, each.window_days), each) for each in (before, after)]
    for snapshot, publication in sides:
        if collected(warehouse, snapshot) & set(publication.load_ids.values()):
            raise RequestError(
                f"{snapshot}: gc removed the rows of publication {publication.publication_id}",
                hint="compare other publications: gc keeps those of the newest --keep-versions of each snapshot",
            )
        require_rows(warehouse, snapshot, publication, hint="sot-ingest verify says what is missing, and what to do")
    return Difference(
        network,
        before,
        after,
        {
            name: changes_between(
                warehouse,
                BY_NAME[name],
                *((snapshot, publication.load_ids[name]) for snapshot, publication in sides),
                amount=amounts[name],
                most=MOST,
            )
            for name in BY_NAME
            if all(name in publication.load_ids for _, publication in sides)
        },
        amounts,
    )


def _amounts(amount: str | None) -> dict[str, str]:
    if amount is None:
        return {table.name: table.amount for table in TABLES}
    found = {
        table.name: amount
        if any(column.name == amount and _is_number(column.type) for column in table.file_columns)
        else ""
        for table in TABLES
    }
    if not any(found.values()):
        raise RequestError(
            f"{amount!r} is not a column of numbers in {', '.join(found)}", hint="docs/columns.md lists the columns"
        )
    return found


def _is_number(kind: str) -> bool:
    return kind.startswith(("UInt", "Float", "Decimal"))
