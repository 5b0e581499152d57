"""Replicas: how tables are made into them, and who else must have what one of them has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loguru import logger

from pipeline.errors import WarehouseError, WarehouseUnavailableError
from pipeline.tables import LEDGER, PUBLICATIONS
from pipeline.warehouse import Warehouse


def engine_of(warehouse: Warehouse, name: str) -> str:
    """Return the engine of a replicated table; '' where tables are not replicated. Raises WarehouseError.

    A database of engine Replicated chooses the path itself, and allows no other.
    """
    if not warehouse.is_replicated:
        return ""
    if is_replicated_database(warehouse):
        return "ReplicatedMergeTree"
    chosen = warehouse.replication
    path = chosen.path.replace("{database}", warehouse.database).replace("{table}", name)
    replica = chosen.replica.replace("{database}", warehouse.database)
    return f"ReplicatedMergeTree('{path}', '{replica}')"


def is_replicated_database(warehouse: Warehouse) -> bool:
    """Tell whether what is created in the database is created on all its hosts by ClickHouse. Raises WarehouseError."""
    query = "SELECT engine FROM system.databases WHERE name = {name:String}"
    return warehouse.query(query, name=warehouse.database) == [("Replicated",)]


def copy_to_hosts(warehouse: Warehouse, *tables: str) -> None:
    """Wait until the other hosts that answer have what this one has of some tables.

    Raises WarehouseUnavailableError when fewer than CLICKHOUSE_MIN_COPIES have it then.
    """
    problems = []
    for host in other_hosts(warehouse):
        try:
            if host.answers():
                host.sync(*tables)
            else:
                problems.append(f"{host.uri} does not answer")
        except WarehouseError as error:
            problems.append(str(error))
    copies = len(warehouse.hosts) - len(problems)
    for problem in problems:
        logger.bind(copies=copies).warning("A replica does not have it yet: {}", problem)
    if copies < warehouse.replication.min_copies:
        raise WarehouseUnavailableError(
            f"{warehouse.uri}: {copies} of {warehouse.replication.min_copies} hosts have {', '.join(tables)}: "
            f"{'; '.join(problems)}",
            hint="CLICKHOUSE_MIN_COPIES asks for so many: bring the others back and run again; sot-ingest doctor says "
            "what is wrong with them",
        )


def not_in_sync(warehouse: Warehouse) -> Iterator[str]:
    """Yield what stands against removing rows: replicas that are away, unknown, or lack what was published.

    Such a one could still show what is removed. Raises WarehouseError when this host does not answer.
    """
    if not warehouse.is_replicated:
        return
    publications = replicas_on(warehouse).get(PUBLICATIONS)
    if publications and publications.active < publications.total:
        yield f"{publications.active} of {publications.total} replicas are connected to Keeper"
    elif publications and publications.total > len(warehouse.hosts):
        yield f"there are {publications.total} replicas, and CLICKHOUSE_HOST names {len(warehouse.hosts)}"
    for host in other_hosts(warehouse):
        try:
            host.sync(PUBLICATIONS, LEDGER)
        except WarehouseError as error:
            yield str(error)


def other_hosts(warehouse: Warehouse) -> list[Warehouse]:
    """Return the hosts of the network's shard but this one."""
    return [host for host in warehouse.hosts if host is not warehouse]


def reachable_hosts(warehouse: Warehouse) -> list[Warehouse]:
    """Return this host and the others that answer."""
    return [warehouse, *(host for host in other_hosts(warehouse) if host.answers())]


@dataclass(frozen=True)
class Replica:
    """A table as ``system.replicas`` has it."""

    table: str
    path: str  #: in Keeper: all replicas of a table have the same
    name: str  #: no two have the same
    is_readonly: bool
    total: int  #: replicas that Keeper knows
    active: int  #: of them, those that are connected to it
    delay: int  #: seconds


def replicas_on(host: Warehouse) -> dict[str, Replica]:
    """Return the replicated tables of the database on one host, by name. Raises WarehouseError."""
    rows = host.query(
        """
        SELECT table, zookeeper_path, replica_name, is_readonly, total_replicas, active_replicas,
            toInt64(absolute_delay)
        FROM system.replicas
        WHERE database = {name:String}
        """,
        name=host.database,
    )
    return {row[0]: Replica(row[0], row[1], row[2], bool(row[3]), *map(int, row[4:])) for row in rows}


def shard_problems(hosts: list[Warehouse]) -> Iterator[str]:
    """Yield why hosts are no replicas of each other. Raises WarehouseError."""
    found = [(host, replicas_on(host).get(PUBLICATIONS)) for host in hosts]
    there = [(host, replica) for host, replica in found if replica]
    for at, (host, replica) in enumerate(there):
        for other, another in there[:at]:
            if replica.path != another.path:
                yield f"{other.uri} and {host.uri} are no replicas of each other: {another.path} and {replica.path}"
            elif replica.name == another.name:
                yield f"{other.uri} and {host.uri} are the same replica, {replica.name}"
