"""What the service knows of a network: read from its warehouse with four queries, whatever is asked about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pipeline.graph.context import Context
from pipeline.operations.status import Status, status_of
from pipeline.snapshot import Snapshot
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import AuditRow, is_held, newest_verdicts
from pipeline.warehouse.claims import Work, work_under_way
from pipeline.warehouse.publications import ALL_DAYS, Publication, publications_by_date


@dataclass(frozen=True)
class NetworkState:
    """A network, with one window of days."""

    network: str
    window_days: int
    publications: Mapping[date, Sequence[Publication]]  #: by processing date, the oldest first
    begun: frozenset[date]
    verdicts: Mapping[date, AuditRow]  #: what the audits last said of a day
    work: Mapping[date, Work]  #: runs that are at work

    @property
    def newest(self) -> Publication | None:
        """What readers see of the newest day that they see anything of."""
        seen = (self.publications[day][-1] for day in sorted(self.publications, reverse=True))
        return next((publication for publication in seen if publication.action != "retire"), None)

    def status(self, shared: Context, day: date) -> Status:
        """Return the status of a day; nothing is asked for it."""
        past = self.publications.get(day)
        snapshot = Snapshot(self.network, day, self.window_days)
        newest = past[-1] if past else None
        return status_of(shared, snapshot, newest, self.verdicts.get(day), begun=day in self.begun, next_step=False)

    @property
    def held_days(self) -> int:
        """How many days an audit holds."""
        published = {day: past[-1].published_at for day, past in self.publications.items()}
        return sum(is_held(verdict, published.get(day)) for day, verdict in self.verdicts.items())


def read_state(shared: Context, network: str, window_days: int) -> NetworkState:
    """Ask the network's warehouse. Raises WarehouseError."""
    warehouse = shared.warehouse(network)
    return NetworkState(
        network,
        window_days,
        publications_by_date(warehouse, *ALL_DAYS, window_days),
        frozenset(ledger.attempted_dates(warehouse, *ALL_DAYS, window_days)),
        {
            snapshot.processing_date: verdict
            for snapshot, verdict in newest_verdicts(warehouse, network, *ALL_DAYS).items()
            if snapshot.window_days == window_days
        },
        {work.processing_date: work for work in work_under_way(warehouse, window_days)},
    )
