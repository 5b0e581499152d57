"""Whether the hosts of each network are replicas of each other that are up to date."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import WarehouseError
from pipeline.operations.doctor import UNREACHABLE, CheckResult, Examination, failed, of_error, ok, warning
from pipeline.tables import PUBLICATIONS
from pipeline.warehouse import Warehouse
from pipeline.warehouse.replication import Replica, replicas_on, shard_problems

#: Seconds that a replica may be behind without a word: fetching a large load takes some.
DELAY_SEEN = 60

_KEEPER = "see that Keeper runs and that this host reaches it: without, nothing is written and nothing decided"


def check_replicas(examination: Examination) -> Iterator[CheckResult]:
    """Whether each host answers, can be written to, and lacks nothing, and whether the list names all and no other."""
    for network in examination.settings.networks:
        warehouse = examination.context.warehouse(network)
        if len(warehouse.hosts) == 1 and not warehouse.answers():
            continue  # another check's to say
        if not warehouse.is_replicated:
            continue
        hosts = [host for host in warehouse.hosts if host.answers()]
        for away in warehouse.hosts:
            if away not in hosts:
                hint = "start it, or take it out of CLICKHOUSE_HOST; runs go on with the others, gc waits for it"
                yield failed(f"{away.uri}: does not answer", hint, UNREACHABLE)
        for host in hosts:
            yield from _of_host(host, len(warehouse.hosts))
        for problem in shard_problems(hosts):
            yield failed(problem, "CLICKHOUSE_HOST lists the replicas of one shard: check it, and the servers' macros")


def _of_host(host: Warehouse, listed: int) -> Iterator[CheckResult]:
    tables = replicas_on(host)
    problems = [*_readonly(host, tables), *_behind(host, tables), *_counts(host, tables.get(PUBLICATIONS), listed)]
    if not problems and tables:
        try:
            host.sync(*tables)
        except WarehouseError as error:
            problems = [of_error(error)]
    yield from problems or [ok(f"{host.uri}: {len(tables)} tables are replicas, up to date")]


def _readonly(host: Warehouse, tables: dict[str, Replica]) -> Iterator[CheckResult]:
    if readonly := sorted(name for name, replica in tables.items() if replica.is_readonly):
        yield failed(f"{host.uri}: {', '.join(readonly)} cannot be written to", _KEEPER, UNREACHABLE)


def _behind(host: Warehouse, tables: dict[str, Replica]) -> Iterator[CheckResult]:
    if late := {name: replica.delay for name, replica in tables.items() if replica.delay > DELAY_SEEN}:
        text = ", ".join(f"{name} {delay:,} s" for name, delay in sorted(late.items()))
        hint = "its readers see older publications: see its log and system.replication_queue"
        yield warning(f"{host.uri}: behind the others: {text}", hint)


def _counts(host: Warehouse, publications: Replica | None, listed: int) -> Iterator[CheckResult]:
    if publications is None:
        return
    if publications.active < publications.total:
        text = f"{publications.active} of {publications.total} replicas are connected to Keeper"
        yield warning(f"{host.uri}: {text}", "one that is gone for good: SYSTEM DROP REPLICA (docs/cluster.md)")
    if publications.total != listed:
        text = f"{host.uri}: system.replicas knows {publications.total} replicas, CLICKHOUSE_HOST names {listed}"
        yield warning(text, "name all of them: gc removes nothing before, and nobody looks at the others")
