"""What is wrong with settings taken together, each of which is right by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product

from pydantic import BaseModel

from pipeline.environment import Host
from pipeline.settings.options import DATABASE_PATTERN, Override, ServerAddress, Settings


def mistakes(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the settings taken together."""
    sources = {"SOT_S3_BUCKET": settings.s3_bucket, "SOT_PATH": settings.sot_path, "SOT_HOST": settings.sot_host}
    yield from _not_one("source", sources)
    yield from _port_mistakes(settings)
    if settings.clickhouse_database and len(settings.networks) > 1:
        yield (
            f"CLICKHOUSE_DATABASE: {settings.clickhouse_database!r} is the same for {', '.join(settings.networks)}, "
            "and every network needs its own: "
            f"set {settings.networks[0].upper()}_CLICKHOUSE_DATABASE and so on instead, or name one network"
        )
    if settings.sot_host and not settings.sot_user:
        yield "SOT_USER: not set; expected the user of SOT_HOST who may read its tables"
    if settings.sot_host and len(settings.networks) > 1 and "{network}" not in settings.sot_database:
        yield (
            f"SOT_DATABASE: {settings.sot_database!r} is the same for {', '.join(settings.networks)}, and its tables "
            "do not say which network a row is of: put {network} into it, or name one network"
        )
    if not DATABASE_PATTERN.fullmatch(settings.sot_database.replace("{network}", "network")):
        yield f"SOT_DATABASE: {settings.sot_database!r} is not a database name"
    own = [name for name in settings.networks if settings.overrides.get(name, Override()).host]
    hosts = {"CLICKHOUSE_HOST": settings.clickhouse_host}
    if own and not settings.clickhouse_host:
        hosts = {f"{own[0].upper()}_CLICKHOUSE_HOST": settings.overrides[own[0]].host}
    yield from _not_one("warehouse", {**hosts, "WAREHOUSE_PATH": settings.warehouse_path})
    if any(hosts.values()):
        yield from _network_mistakes(settings)
        yield from _replica_mistakes(settings)


def _port_mistakes(settings: Settings) -> Iterator[str]:
    """Yield each port that is named twice, in a host and in its own variable, and not the same."""
    groups: dict[str, tuple[BaseModel, str]] = {"CLICKHOUSE": (settings, "clickhouse_"), "SOT": (settings, "sot_")}
    groups |= {f"{network}_CLICKHOUSE".upper(): (override, "") for network, override in settings.overrides.items()}
    for variables, (given, prefix) in groups.items():
        hosts = getattr(given, f"{prefix}host") or ()
        for host, name in product([hosts] if isinstance(hosts, Host) else hosts, ("port", "http_port")):
            named, port = getattr(host, name), getattr(given, prefix + name)
            if named and f"{prefix}{name}" in given.model_fields_set and named != port:
                yield f"{variables}_{name.upper()}: {port}, but {variables}_HOST names port {named}; name it once"


def _replica_mistakes(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with how tables become replicas."""
    copies = {network: len(settings.servers(network)) for network in settings.networks}
    several = next((network for network in settings.networks if copies[network] > 1), None)
    if several and settings.clickhouse_replicated == "false":
        yield f"CLICKHOUSE_REPLICATED: 'false', but {several} has {copies[several]} hosts; expected auto or true"
    for network in settings.networks:
        if 0 < copies[network] < settings.clickhouse_min_copies:
            yield f"CLICKHOUSE_MIN_COPIES: {settings.clickhouse_min_copies}, but {network} has {copies[network]} host"
    path = settings.clickhouse_replica_path
    if "{table}" not in path or not path.startswith("/"):
        yield f"CLICKHOUSE_REPLICA_PATH: {path!r}, expected a path from / with {{table}} in it"
    elif "{database}" not in path and len(settings.networks) > 1:
        networks = ", ".join(settings.networks)
        yield f"CLICKHOUSE_REPLICA_PATH: {path!r} is the same for the tables of {networks}: put {{database}} into it"
    if wrong := re.search(r"['\\\x00-\x20]", path):
        yield f"CLICKHOUSE_REPLICA_PATH: has {wrong[0]!r} in it, which no path in Keeper should have"


def _network_mistakes(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with where these networks' tables go: no server, or a database that is no one's own."""
    owners: dict[tuple[ServerAddress, str], str] = {}
    for network in settings.networks:
        servers, database = settings.servers(network), settings.database(network)
        if not servers and settings.warehouse_path is None:
            yield f"{network.upper()}_CLICKHOUSE_HOST: not set, and neither is CLICKHOUSE_HOST"
        if not DATABASE_PATTERN.fullmatch(database):
            yield f"{network.upper()}_CLICKHOUSE_DATABASE: {database!r} is not a database name"
        owner = next((owners[server, database] for server in servers if (server, database) in owners), network)
        owners |= dict.fromkeys(((server, database) for server in servers), owner)
        if owner != network:
            yield (
                f"{network.upper()}_CLICKHOUSE_DATABASE: {database!r} is {owner}'s database already; "
                "every network needs its own"
            )


def _not_one(what: str, values: Mapping[str, object]) -> Iterator[str]:
    """Yield a mistake unless exactly one of the variables is set."""
    named = [name for name, value in values.items() if value]
    if len(named) != 1:
        found = f"{' and '.join(named)} are set" if named else "none is set"
        yield f"{' or '.join(values)}: exactly one {what} must be configured, {found}"
