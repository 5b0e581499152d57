"""What each host of a network's shard shows, and which of them shows something else than the newest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime

from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import LEDGER, PUBLICATIONS
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.publications import Publication, publications_by_date
from pipeline.warehouse.rows import moment


@dataclass(frozen=True)
class HostBehind:
    """A host that shows another publication of a snapshot than the newest, or does not tell."""

    snapshot: Snapshot
    host: str
    newest: Publication
    shown_at: datetime | None = None  #: when what it shows was published; None: it shows nothing
    problem: str = ""  #: why it does not tell

    def __str__(self) -> str:
        """Return it on one line, for people."""
        if self.problem:
            return f"{self.host} does not tell what it shows: {self.problem}"
        shows = f"the publication of {self.shown_at:%Y-%m-%d %H:%M:%S}" if self.shown_at else "nothing"
        return f"{self.host} shows {shows}, the newest is of {self.newest.published_at:%Y-%m-%d %H:%M:%S} UTC"


def hosts_behind(
    warehouse: Warehouse, network: str, first: date, last: date, window_days: int
) -> dict[date, list[HostBehind]]:
    """Return, by date, which hosts show something else than the newest publication; one question a host.

    Nothing where tables are no replicas. Raises WarehouseError when not even this host tells.
    """
    if not warehouse.is_replicated:
        return {}
    with suppress(WarehouseError):  # what is newest here is compared with the others all the same
        warehouse.sync(PUBLICATIONS, LEDGER)
    past = publications_by_date(warehouse, first, last, window_days)
    newest = {day: publications[-1] for day, publications in past.items()}
    found: dict[date, list[HostBehind]] = {}
    for host in warehouse.hosts:
        for behind in _of_host(host, network, newest, window_days):
            found.setdefault(behind.snapshot.processing_date, []).append(behind)
    return found


def one_line_a_host(found: dict[date, list[HostBehind]]) -> list[str]:
    """Return what each host shows of the newest date that it is behind of, and how many more dates there are."""
    by_host: dict[str, list[HostBehind]] = {}
    for _, behind in sorted(found.items(), reverse=True):
        for each in behind:
            by_host.setdefault(each.host, []).append(each)
    lines = []
    for newest, *others in by_host.values():
        more = f", and {len(others)} more days" if others else ""
        lines.append(f"{newest} ({newest.snapshot.processing_date}{more})")
    return lines


def _of_host(host: Warehouse, network: str, newest: dict[date, Publication], window_days: int) -> Iterator[HostBehind]:
    try:
        shown, problem = _shown(host, min(newest), max(newest), window_days) if newest else {}, ""
    except WarehouseError as error:
        shown, problem = {}, str(error)
    for day, publication in newest.items():
        id_, shown_at = shown.get(day, ("", None))
        if id_ != publication.publication_id and (shown_at or problem or publication.action != "retire"):
            yield HostBehind(Snapshot(network, day, window_days), host.uri, publication, shown_at, problem)


def _shown(host: Warehouse, first: date, last: date, window_days: int) -> dict[date, tuple[str, datetime]]:
    """Return id and time of the publication that a host shows of each date."""
    try:
        rows = host.query(
            """
            SELECT toString(processing_date), toString(publication_id), toUnixTimestamp64Micro(published_at)
            FROM {database}.sot_snapshots
            WHERE processing_date BETWEEN {first:Date} AND {last:Date} AND window_days = {window_days:UInt16}
            """,
            first=first.isoformat(),
            last=last.isoformat(),
            window_days=window_days,
        )
    except MissingTableError:
        return {}
    return {date.fromisoformat(day): (id_, moment(at)) for day, id_, at in rows}
