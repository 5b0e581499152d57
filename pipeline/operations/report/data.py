"""What the report is about: each network and its days, with what runs did about them.

Seven queries a network, however many days there are, and of replicas one more for each host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from pipeline.dates import day_end, last_days
from pipeline.graph.context import Context
from pipeline.operations.freshness import USUAL_MAX_AGE
from pipeline.operations.replicas import hosts_behind, one_line_a_host
from pipeline.operations.report.days import ReportDay, compared, entry_of
from pipeline.operations.report.failures import Failure, grouped
from pipeline.operations.report.networks import Health, NetworkReport
from pipeline.operations.status import status_of
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse, ledger
from pipeline.warehouse.audit_log import newest_verdicts
from pipeline.warehouse.claims import work_under_way
from pipeline.warehouse.ledger import HOST, PIPELINE_VERSION
from pipeline.warehouse.publications import ALL_DAYS, Publication, publications_by_date
from pipeline.warehouse.replication import reachable_hosts
from pipeline.warehouse.step_log import StepRecord, step_records
from pipeline.warehouse.storage import Disk, disks, table_sizes


@dataclass(frozen=True)
class Report:
    """Everything on the page."""

    now: datetime  #: UTC
    first: date
    last: date
    window_days: int
    networks: tuple[NetworkReport, ...]  #: those in trouble first, and then as they are configured
    records: tuple[StepRecord, ...]  #: of all steps, the oldest first
    disks: dict[str, list[Disk]]  #: by server
    host: str = HOST
    version: str = PIPELINE_VERSION

    @property
    def newest_first(self) -> list[ReportDay]:
        """All entries, by day and then by network."""
        columns = [network.days[::-1] for network in self.networks]
        return [entry for day in zip(*columns, strict=True) for entry in day]

    @property
    def healths(self) -> list[Health]:
        """How each network is."""
        return [network.health(self.now) for network in self.networks]

    @property
    def headline(self) -> str:
        """How many networks are up to date, in one sentence without its end."""
        troubled, all_networks = sum(health.is_trouble for health in self.healths), len(self.networks)
        if all_networks == 1:
            return f"{self.networks[0].network} {'needs a look' if troubled else 'is up to date'}"
        if not troubled:
            return f"All {all_networks} networks are up to date"
        return f"{troubled} of {all_networks} networks {'needs' if troubled == 1 else 'need'} a look"

    def count(self, state: str) -> int:
        """Return how many days are in a state."""
        return sum(network.count(state) for network in self.networks)

    @property
    def failures(self) -> list[Failure]:
        """The failures of steps, those for the same cause as one."""
        return grouped(self.records, {entry.snapshot for entry in self.newest_first if entry.failure})


def collect(
    shared: Context,
    *,
    days: int,
    last: date,
    now: datetime,
    networks: Sequence[str] = (),
    window_days: int = 0,
    next_steps: bool = True,
) -> Report:
    """Read what the warehouse knows of the networks, by default those configured, and of ``days`` days up to ``last``.

    Without ``next_steps`` the source is asked nothing: see :func:`pipeline.operations.status.status_of`. Raises
    WarehouseError.
    """
    wanted, window_days = last_days(days, last), window_days or shared.settings.window_days
    found, records, by_server = [], [], {}
    for network in networks or shared.settings.networks:
        warehouse = shared.warehouse(network)
        own = step_records(warehouse, network, wanted[0], last, window_days)
        found.append(_network(shared, warehouse, network, wanted, window_days, now, own, next_steps=next_steps))
        records += own
        for host in reachable_hosts(warehouse):
            if (server := host.uri.rpartition("/")[0]) not in by_server:
                by_server[server] = disks(host)
    found.sort(key=lambda each: each.health(now).rank)
    records.sort(key=lambda record: record.started_at)
    return Report(now, wanted[0], last, window_days, tuple(found), tuple(records), by_server)


def _network(
    shared: Context,
    warehouse: Warehouse,
    network: str,
    wanted: Sequence[date],
    window_days: int,
    now: datetime,
    records: Sequence[StepRecord],
    *,
    next_steps: bool,
) -> NetworkReport:
    past = publications_by_date(warehouse, *ALL_DAYS, window_days)
    begun = ledger.attempted_dates(warehouse, wanted[0], wanted[-1], window_days)
    verdicts = newest_verdicts(warehouse, network, wanted[0], wanted[-1])
    work = work_under_way(warehouse, window_days)
    behind = hosts_behind(warehouse, network, wanted[0], wanted[-1], window_days)
    running = {each.processing_date for each in work}
    by_day: dict[date, list[StepRecord]] = defaultdict(list)
    for record in records:
        by_day[record.snapshot.processing_date].append(record)
    entries = []
    for day in wanted:
        publications = past.get(day, [])
        seen = publications[-1] if publications else None
        snapshot = Snapshot(network, day, window_days)
        status = status_of(shared, snapshot, seen, verdicts.get(snapshot), begun=day in begun, next_step=next_steps)
        status = replace(status, behind=tuple(map(str, behind.get(day, ()))))
        missing = state_when_missing(day, min(past, default=None), now)
        entries.append(entry_of(status, publications, by_day[day], running=day in running, missing=missing))
    sizes, lines = table_sizes(warehouse), one_line_a_host(behind)
    return NetworkReport(
        network, tuple(compared(entries)), _newest(past), tuple(sizes), tuple(work), behind=tuple(lines)
    )


def _newest(past: dict[date, list[Publication]]) -> Publication | None:
    """Return what readers see of the newest day that they see anything of."""
    return next((past[day][-1] for day in sorted(past, reverse=True) if past[day][-1].action != "retire"), None)


def state_when_missing(day: date, first: date | None, now: datetime) -> str:
    """Return the state of a day on which nothing was done; ``first`` is the first that was ever published.

    A day is missing as soon as ``check`` would find the day before too old.
    """
    if first is None or day < first:
        return "before the first"
    return "missing" if now - day_end(day) > USUAL_MAX_AGE - timedelta(days=1) else "expected"
