"""What may be removed and why: loads that no publication to be kept names, days past their retention, work files.

A load that an audit holds is kept as long as it is the newest of its snapshot that was audited, and nothing was
published since: it may be accepted. Where days past their retention are removed it goes with its day.

A load goes in four moves, so that nothing removed can be published meanwhile: its snapshot is claimed, which keeps runs
out; the ledger says that it is collected, after which no publication is decided that names it; a link after the newest
publication makes void what was decided before; then its partition is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from loguru import logger

from pipeline.errors import ClaimedError, WarehouseError
from pipeline.graph.context import Context
from pipeline.operations import work_files
from pipeline.operations.work_files import WorkFile
from pipeline.snapshot import Snapshot
from pipeline.tables import AUDITS, LEDGER, PUBLICATIONS
from pipeline.warehouse import MissingTableError, Warehouse, collect
from pipeline.warehouse.audit_log import awaits_publication, newest_verdicts
from pipeline.warehouse.collect import PublishedLoads, StoredLoad
from pipeline.warehouse.link import append_link
from pipeline.warehouse.publications import ALL_DAYS, newest_publication
from pipeline.warehouse.replication import not_in_sync
from pipeline.warehouse.retire import retire_snapshot

#: A proven load that was not published yet saves a rerun the loading for so long.
KEEP_UNPUBLISHED = timedelta(days=7)
#: An attempt that was started and not heard of since can run no longer: INSERT_SECONDS, and time to spare.
GIVE_UP_STARTED = timedelta(hours=2)
#: States in which no run, and no rollback, publishes a load, whatever comes.
_UNPUBLISHABLE = frozenset({"started", "failed", "compared"})
_SNAPSHOTS_AT_ONCE = 50


@dataclass(frozen=True)
class Policy:
    """What to keep."""

    versions: int  #: the newest publications of each snapshot
    oldest: date | None  #: days before this one are past their retention; None keeps all
    now: datetime  #: UTC


@dataclass(frozen=True)
class GarbageLoad:
    """A load that may be removed."""

    load: StoredLoad
    why: str  #: superseded, unpublished or past retention


@dataclass(frozen=True)
class Garbage:
    """All that may be removed, or was."""

    loads: Sequence[GarbageLoad]
    files: Sequence[WorkFile]
    retired: Sequence[Snapshot] = ()  #: published days past their retention
    left: Sequence[str] = ()  #: what was left, and why


def find(context: Context, policy: Policy) -> Garbage:
    """Return what may be removed.

    Raises WarehouseError, also when publications are hidden or gone that could name a load, and WorkDirectoryError.
    """
    loads, retired = [], []
    for network in context.settings.networks:
        found, days = _of_network(context, network, policy)
        loads += found
        retired += days
    return Garbage(loads, list(work_files.leftovers(context, policy.oldest, policy.now)), retired)


def _of_network(context: Context, network: str, policy: Policy) -> tuple[list[GarbageLoad], list[Snapshot]]:
    warehouse = context.warehouse(network)
    with suppress(MissingTableError):
        warehouse.sync(PUBLICATIONS, LEDGER, AUDITS)
    collect.require_all_publications(warehouse, network)
    loads = collect.stored_loads(warehouse, network)  # before the publications: these name no load that is newer
    published = collect.all_publications(warehouse, network)
    retired = [snapshot for snapshot, past in published.items() if past[-1].load_ids and _is_past(snapshot, policy)]
    return list(choose(loads, published, policy, _audited(warehouse, network, published))), retired


def _audited(warehouse: Warehouse, network: str, published: Mapping[Snapshot, Sequence[PublishedLoads]]) -> set[str]:
    """Return the loads that were audited and may still be published."""
    found: set[str] = set()
    for snapshot, verdict in newest_verdicts(warehouse, network, *ALL_DAYS).items():
        past = published.get(snapshot)
        if awaits_publication(verdict, past[-1].published_at if past else None):
            found.update(verdict.load_ids.values())
    return found


def choose(
    loads: Sequence[StoredLoad],
    published: dict[Snapshot, list[PublishedLoads]],
    policy: Policy,
    audited: Collection[str] = (),
) -> Iterator[GarbageLoad]:
    """Yield the loads that may be removed, each with the reason; ``audited`` are those that may still be published."""
    for load in loads:
        past = published.get(load.snapshot, [])
        if _is_past(load.snapshot, policy):
            yield GarbageLoad(load, "past retention")
        elif any(load.load_id in publication.load_ids for publication in _kept(past, policy)):
            continue
        elif any(load.load_id in publication.load_ids for publication in past):
            yield GarbageLoad(load, "superseded")
        elif _is_dead(load, past, policy) and (load.state != "loaded" or load.load_id not in audited):
            yield GarbageLoad(load, "unpublished")


def _is_past(snapshot: Snapshot, policy: Policy) -> bool:
    return policy.oldest is not None and snapshot.processing_date < policy.oldest


def _kept(past: Sequence[PublishedLoads], policy: Policy) -> Sequence[PublishedLoads]:
    """Return the publications whose loads are kept; of a day that was retired none."""
    return past[-policy.versions :] if past and past[-1].load_ids else []


def _is_dead(load: StoredLoad, past: Sequence[PublishedLoads], policy: Policy) -> bool:
    """Tell whether no run can use a load that was never published."""
    age = policy.now - load.recorded_at
    if load.state == "started":
        return age > GIVE_UP_STARTED
    if load.state == "loaded":
        return age > KEEP_UNPUBLISHED or bool(past and past[-1].published_at > load.recorded_at)
    return True


def remove_garbage(context: Context, policy: Policy, found: Garbage) -> Garbage:
    """Remove what was found, unless it is in use by now, and return what was. Raises WarehouseError."""
    removed: list[GarbageLoad] = []
    retired: list[Snapshot] = []
    left: list[str] = []
    snapshots = sorted({garbage.load.snapshot for garbage in found.loads} | set(found.retired))
    for at in range(0, len(snapshots), _SNAPSHOTS_AT_ONCE):
        with ExitStack() as stack:
            free = [each for each in snapshots[at : at + _SNAPSHOTS_AT_ONCE] if _keep(context, each, stack, left)]
            retired += [each for each in found.retired if each in free and _retire(context, each)]
            removed += _collect(context, free, policy, left)
    return Garbage(removed, list(work_files.remove(context, found.files, left)), retired, left)


def forget_partitions(context: Context) -> None:
    """Let Keeper forget what earlier collections dropped; what it cannot forget is left for the next."""
    for network in context.settings.networks:
        try:
            if count := collect.forget_partitions(context.warehouse(network), network):
                logger.bind(network=network, partitions=count).info("Keeper forgot dropped partitions")
        except WarehouseError as error:
            logger.bind(network=network, hint=error.hint).warning("Keeper still knows dropped partitions: {}", error)


def _keep(context: Context, snapshot: Snapshot, stack: ExitStack, left: list[str]) -> bool:
    """Keep runs out of a snapshot, if none is at work on it."""
    try:
        if claims := context.claims_of("gc"):
            stack.enter_context(claims.held(snapshot))
    except ClaimedError as error:
        left.append(str(error))
        return False
    return True


def _retire(context: Context, snapshot: Snapshot) -> bool:
    return retire_snapshot(context.warehouse(snapshot.network), snapshot, run_id=context.run_id)


def _collect(context: Context, snapshots: Sequence[Snapshot], policy: Policy, left: list[str]) -> Iterator[GarbageLoad]:
    """Look again, mark, link, drop; yield what was dropped. Of replicas every one must have what is published."""
    for network in sorted({snapshot.network for snapshot in snapshots}):
        warehouse = context.warehouse(network)
        if problems := list(not_in_sync(warehouse)):
            left += [f"{network}: {problem}" for problem in problems]
            continue
        newest = {each: newest_publication(warehouse, each) for each in snapshots if each.network == network}
        loads, _ = _of_network(context, network, policy)
        chosen = [garbage for garbage in loads if garbage.load.snapshot in newest]
        if chosen:
            collect.mark(warehouse, [garbage.load for garbage in chosen], "collected")
        linked = {garbage.load.snapshot for garbage in chosen if garbage.load.state not in _UNPUBLISHABLE}
        lost = {snapshot for snapshot in linked if not append_link(warehouse, snapshot, newest[snapshot])}
        left += [f"{snapshot}: another publication came first" for snapshot in sorted(lost)]
        if problems := list(not_in_sync(warehouse)):
            left += [f"{network}: {problem}" for problem in problems]
            lost = set(newest)
        for garbage in chosen:
            if garbage.load.snapshot in lost:
                collect.mark(warehouse, [garbage.load], garbage.load.state)
            else:
                collect.drop(warehouse, garbage.load)
                _tell(garbage)
                yield garbage


def _tell(garbage: GarbageLoad) -> None:
    load = garbage.load
    logger.bind(
        **load.snapshot.log_fields,
        table=load.table_name,
        load_id=load.load_id,
        rows=load.rows,
        why=garbage.why,
    ).info("Collected load")
