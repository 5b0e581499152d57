"""What has to be asked over the network: the source, the warehouse, luigid, their clocks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime

from pipeline.audits import HINT
from pipeline.audits.runner import SETTINGS, find_mistakes
from pipeline.clickhouse import SERVER_NAME, ClickHouse
from pipeline.dates import yesterday
from pipeline.errors import SourceError, WarehouseError
from pipeline.graph import luigid
from pipeline.operations.doctor import CheckResult, Examination, failed, local, of_error, ok, warning
from pipeline.settings import ServerAddress, Settings
from pipeline.snapshot import Snapshot
from pipeline.sources.sot_tables import ROLE as SOT_ROLE
from pipeline.sources.sot_tables import SOT_TABLES, SotTables
from pipeline.warehouse import PARQUET_SETTINGS, ROLE
from pipeline.warehouse.schema import check_schema

OLDEST_CLICKHOUSE = 26

#: What the warehouse must grant, for each network's database and at large; docker/grants.sql lists the same.
DATABASE_GRANTS = ("SELECT", "INSERT", "CREATE TABLE", "ALTER DELETE", "ALTER COMMENT COLUMN", "ALTER MODIFY COMMENT")
GRANTS = ("TABLE ENGINE ON MergeTree", "SELECT(query_id, user, query) ON system.processes")
REPLICA_GRANTS = ("TABLE ENGINE ON ReplicatedMergeTree",)

#: What statements set, with what some of them set otherwise: publications and claims, and those of gc and verify.
WAREHOUSE_SETTINGS = (
    *ROLE.pinned.items(),
    *PARQUET_SETTINGS.items(),
    *SETTINGS.items(),
    ("insert_deduplicate", 1),
    ("insert_deduplication_token", "doctor"),
    ("max_partitions_per_insert_block", 0),
    ("max_partition_size_to_drop", 0),
    ("apply_deleted_mask", 0),
)

#: Seconds between two clocks that are a warning, and those that S3 refuses a signature for.
SKEW_SEEN, SKEW_REFUSED = 10.0, 900.0

_NO_LIST = (
    "let it list the bucket (s3:ListBucket): without, a snapshot that is not there yet looks like a refused login"
)
_SETTINGS = "let the user's profile have these values or change them: readonly 0, no constraint on these settings"
_GRANT = "docker/grants.sql has the GRANT statements"


def check_source(examination: Examination) -> Iterator[CheckResult]:
    """Whether the source answers and may be listed, and how old what it has is."""
    chosen, found = examination.settings, examination.context.source
    if address := chosen.sot_server:
        yield from _sot(chosen, address)
        return
    how = f", {'unsigned' if chosen.s3_anonymous else 'signed'}" if chosen.s3_bucket else ""
    for network in chosen.networks:
        try:
            newest = next((s for s in found.manifests(network) if s.window_days == chosen.window_days), None)
        except SourceError as error:
            if error.transient:
                raise
            found.manifest_uri(Snapshot(network, yesterday(), chosen.window_days))  # raises when that is refused, too
            yield warning(f"{found.uri}{how}: {error}", _NO_LIST)
            return
        yield _newest(f"{found.uri}{how}", network, newest, chosen.window_days)
        if newest:
            examination.newest[network] = newest


def _newest(where: str, network: str, newest: Snapshot | None, window_days: int) -> CheckResult:
    if newest is None:
        hint = f"check SOT_S3_PREFIX or SOT_PATH, INGESTION_WINDOW_DAYS ({window_days}), and ask upstream"
        return warning(f"{where}: no snapshot of {network}", hint)
    text = f"{where}: newest of {network} is {newest.processing_date}"
    if newest.processing_date < yesterday():
        return warning(text, "upstream has not published yesterday yet; runs exit with 20 until it does")
    return ok(text)


def _sot(chosen: Settings, address: ServerAddress) -> Iterator[CheckResult]:
    """Ask the SOT ClickHouse for its version and for the right to read its tables, all of their rows."""
    server = ClickHouse(address, chosen.sot_user or "", chosen.sot_password, chosen.sot_secure, SOT_ROLE)
    yield _settings(server, SOT_ROLE.pinned.items())
    yield _ports(server)
    databases = {chosen.sot_database.replace("{network}", network): network for network in chosen.networks}
    for database, network in databases.items():
        rights = [f"SELECT ON `{database}`.{SOT_TABLES[name]}" for name in chosen.table_names]
        granted = _grants(server, rights, f"{server.where}: {database} can be read")
        yield granted
        for table in chosen.tables if granted.state == "ok" else ():
            SotTables(server, chosen.sot_database).require_all_rows(network, table)


def check_warehouse(examination: Examination) -> Iterator[CheckResult]:
    """Whether both ports of every server answer, their version is one that works, and the grants are enough."""
    chosen, engine = examination.settings, examination.context.engine
    if engine is not None:
        version = engine.run("SELECT version()", {}, "TSV").decode().strip()
        yield _version(f"embedded ClickHouse in {engine.path}", version)
        return
    for address, networks in _servers(chosen).items():
        try:
            yield from _of_server(examination, _server(chosen, address), networks)
        except WarehouseError as error:
            yield of_error(error)


def _of_server(examination: Examination, server: ClickHouse, networks: list[str]) -> Iterator[CheckResult]:
    yield _settings(server, WAREHOUSE_SETTINGS)
    yield _ports(server)
    databases = [examination.settings.database(network) for network in networks]
    hosts = [
        host
        for network in networks
        for host in examination.context.warehouse(network).hosts
        if host.uri.startswith(f"clickhouse://{server.address.native}/")
    ]
    rights = _rights(server, databases) + (list(REPLICA_GRANTS) if any(host.is_replicated for host in hosts) else [])
    rights += [f"SYSTEM SYNC REPLICA ON `{host.database}`.*" for host in hosts if host.is_replicated]
    yield _grants(server, rights, f"{server.where}: grants suffice for {', '.join(databases)}")
    for host in hosts:
        check_schema(host)
        yield ok(f"{host.uri}: has the pipeline's shape, or nothing yet")


def _servers(chosen: Settings) -> dict[ServerAddress, list[str]]:
    """Return the servers with the networks that go there."""
    found: dict[ServerAddress, list[str]] = {}
    for network in chosen.networks:
        for address in chosen.servers(network):
            found.setdefault(address, []).append(network)
    return found


def _server(chosen: Settings, address: ServerAddress) -> ClickHouse:
    return ClickHouse(address, chosen.clickhouse_user, chosen.clickhouse_password, chosen.clickhouse_secure, ROLE)


def _settings(server: ClickHouse, settings: Iterable[tuple[str, int | str]]) -> CheckResult:
    """Send every setting of every statement by itself, as far as its profile lets the user."""
    refused = server.refused_settings(settings)
    if not refused:
        return ok(f"{server.where}: {server.user} may send every setting that statements need")
    why = next(iter(refused.values()))
    return failed(f"{server.where}: {server.user} may not set {', '.join(refused)}: {why}", _SETTINGS)


def _ports(server: ClickHouse) -> CheckResult:
    """Ask both ports who answers and in which version."""
    asked = f"SELECT version(), {SERVER_NAME}"
    ((version, name),) = server.query(asked, {})
    over_http = b"".join(server.receive(f"{asked} FORMAT TSV", {})).decode().split("\t")
    if [version, name] != [over_http[0], over_http[1].strip()]:
        ports = f"ports {server.address.port} and {server.address.http_port}"
        text = f"{server.where}: {ports} are of two servers: {version} {name} and {' '.join(over_http).strip()}"
        return failed(text, f"check {server.role.variables}_PORT and {server.role.variables}_HTTP_PORT")
    return _version(f"{server.where} and HTTP port {server.address.http_port}", version)


def _version(where: str, version: str) -> CheckResult:
    if int(version.partition(".")[0]) < OLDEST_CLICKHOUSE:
        return failed(
            f"{where}: version {version}", f"the pipeline was measured on {OLDEST_CLICKHOUSE} and later: upgrade"
        )
    return ok(f"{where}: version {version}")


def _rights(server: ClickHouse, databases: list[str]) -> list[str]:
    """Return what must be granted; CREATE DATABASE only where there is none yet."""
    query = "SELECT name FROM system.databases WHERE has(splitByChar(',', {names:String}), name)"
    there = {name for (name,) in server.query(query, {"names": ",".join(databases)})}
    rights = [f"{right} ON `{database}`.*" for database in databases for right in DATABASE_GRANTS]
    return [*rights, *(f"CREATE DATABASE ON `{name}`.*" for name in databases if name not in there), *GRANTS]


def _grants(server: ClickHouse, rights: list[str], text: str) -> CheckResult:
    missing = [right for right in rights if server.query(f"CHECK GRANT {right}", {}) != [(1,)]]
    if missing:
        return failed(f"{server.where}: {server.user} lacks {', '.join(missing)}".replace("`", ""), _GRANT)
    return ok(text)


def check_audits(examination: Examination) -> Iterator[CheckResult]:
    """Whether every audit is also one that ClickHouse can be asked; no row is read."""
    yield from local.check_audits(examination)
    catalogue, is_right = examination.context.audits, not examination.context.audits.mistakes
    for network in examination.settings.networks:
        chosen = catalogue.chosen(network) if is_right else catalogue.chosen_by_operator(network)
        try:
            mistakes = list(find_mistakes(examination.context.warehouse(network), chosen))
        except WarehouseError:
            yield warning(f"{network}: ClickHouse was not asked, which does not answer", "see warehouse")
            continue
        yield from (failed(f"{network}: {line}", HINT) for line in mistakes)
        if is_right and not mistakes:
            yield ok(f"{network}: ClickHouse can be asked {len(chosen)}")


def check_luigid(_: Examination) -> Iterator[CheckResult]:
    """Whether it answers; a run does without it."""
    if problem := luigid.problem():
        yield warning(problem, "start it, or correct [core] of luigi.cfg; runs go on without its page")
    else:
        yield ok(f"answers at {luigid.url()}")


def check_clock(examination: Examination) -> Iterator[CheckResult]:
    """How far this host's clock is from those of the others."""
    chosen = examination.settings
    for address in _servers(chosen):
        server = _server(chosen, address)
        before = time.time()
        try:
            ((there,),) = server.query("SELECT toUnixTimestamp64Milli(now64(3))", {})
        except WarehouseError:
            yield warning(f"not compared with {server.where}, which does not answer", "see warehouse")
        else:
            yield _skew(server.where, there / 1_000, before, time.time())
    if chosen.s3_bucket:
        yield from _s3_clock(chosen)


def _s3_clock(chosen: Settings) -> Iterator[CheckResult]:
    """Take the Date header of the store's answer, whatever that is."""
    import urllib3  # noqa: PLC0415

    url = chosen.s3_endpoint or "https://s3.amazonaws.com"
    before = time.time()
    try:
        answer = urllib3.request("HEAD", url, timeout=10, retries=False, redirect=False)
        date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (urllib3.exceptions.HTTPError, KeyError, ValueError):
        return  # whether the source answers is another check's to say
    yield _skew(url, date + 0.5, before, time.time())  # a Date has whole seconds


def _skew(where: str, there: float, before: float, after: float) -> CheckResult:
    """Compare a clock with ours; what the question took counts for nothing."""
    skew = max(before - there, there - after, 0.0)
    text = f"{skew:.1f} s from {where}"
    if skew >= SKEW_REFUSED:
        return failed(text, "set the clock of this host, or of that one: S3 refuses signatures that are 15 minutes off")
    return ok(text) if skew < SKEW_SEEN else warning(text, "let both hosts keep their clocks by NTP")
