"""The source and the warehouses that the settings describe, one of each a process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from pipeline import logs
from pipeline.audits.catalogue import Catalogue, load_catalogue
from pipeline.clickhouse import ANSWER_SECONDS, ClickHouse
from pipeline.files.workspace import Workspace
from pipeline.graph.answers import Answers
from pipeline.graph.ownership import Ownership
from pipeline.retry import retry_call
from pipeline.settings import ServerAddress, Settings, get_settings
from pipeline.snapshot import Snapshot
from pipeline.warehouse import ROLE, Replication
from pipeline.warehouse.claim_holder import Claims
from pipeline.warehouse.claims import Claimant
from pipeline.warehouse.embedded import EmbeddedWarehouse, Engine
from pipeline.warehouse.publications import Publication, publications_of
from pipeline.warehouse.server import ServerWarehouse
from pipeline.warehouse.shard import Shard

if TYPE_CHECKING:
    from pipeline.sources import Source
    from pipeline.sources.sot import SotSource
    from pipeline.warehouse import Warehouse


T = TypeVar("T")

#: How long an answer of the warehouse is waited for by what is not the work itself: logs, messages, metrics.
QUICK_SECONDS = 10


@dataclass(frozen=True)
class Context:
    """What every step of a run shares."""

    settings: Settings
    _warehouses: dict[tuple[str, float], Warehouse | Shard] = field(default_factory=dict)
    _servers: dict[tuple[ServerAddress, float], ClickHouse] = field(default_factory=dict)
    confirmed: set[tuple[Snapshot, str]] = field(default_factory=set)  #: manifests that the source said are the newest
    answers: Answers = field(default_factory=Answers)
    prepared: set[str] = field(default_factory=set)  #: networks whose tables were looked at in this run
    run_id: str = field(default_factory=lambda: uuid4().hex)  #: the same in all processes that luigi forks for a run
    answer_seconds: float = ANSWER_SECONDS  #: how long an answer of a warehouse is waited for

    @cached_property
    def source(self) -> Source:
        """Where snapshots come from."""
        chosen = self.settings
        if self.sot is not None:
            return self.sot
        if chosen.sot_path is not None:
            from pipeline.sources.directory import DirectorySource  # noqa: PLC0415  # only the one that is used

            return DirectorySource(chosen.sot_path, tables=chosen.tables)
        from pipeline.sources.s3 import S3Source  # noqa: PLC0415

        return S3Source(
            chosen.s3_bucket or "",
            endpoint=chosen.s3_endpoint,
            region=chosen.s3_region,
            prefix=chosen.s3_prefix,
            anonymous=chosen.s3_anonymous,
            tables=chosen.tables,
        )

    @cached_property
    def sot(self) -> SotSource | None:
        """The SOT ClickHouse, where that is the source: its tables are exported before there is a manifest."""
        chosen = self.settings
        if (address := chosen.sot_server) is None:
            return None
        from pipeline.sources.sot import SotSource  # noqa: PLC0415  # only when it is used
        from pipeline.sources.sot_tables import ROLE as SOT_ROLE  # noqa: PLC0415

        return SotSource(
            ClickHouse(address, chosen.sot_user or "", chosen.sot_password, chosen.sot_secure, SOT_ROLE),
            chosen.sot_database,
            chosen.work_path.absolute() / "export",
            tables=chosen.tables,
            settle_seconds=chosen.sot_settle_seconds,
            may_be_empty=chosen.sot_may_be_empty,
        )

    @cached_property
    def audits(self) -> Catalogue:
        """What is asked of a snapshot before it is published."""
        return load_catalogue(self.settings.audits_path, self.settings.networks)

    @property
    def is_embedded(self) -> bool:
        """Whether tables go to ClickHouse inside this process."""
        return self.settings.warehouse_path is not None

    @cached_property
    def engine(self) -> Engine | None:
        """The embedded ClickHouse of this process, if that is where tables go."""
        return Engine(self.settings.warehouse_path) if self.settings.warehouse_path else None

    def warehouse(self, network: str, *, timeout: float | None = None) -> Warehouse:
        """Return where the network's tables go; an answer may take ``timeout`` seconds, the context's by default.

        Of several replicas it is one that answers: whoever holds it stays with it.
        """
        key = (network, timeout or self.answer_seconds)
        if key not in self._warehouses:
            self._warehouses[key] = self._connect(*key)
        found = self._warehouses[key]
        return found.current() if isinstance(found, Shard) else found

    def publications(self, snapshot: Snapshot) -> list[Publication]:
        """Return a snapshot's publications, the oldest first, as this run knows them. Raises WarehouseError."""
        warehouse = self.warehouse(snapshot.network)
        return self.answers.ask("publications", snapshot, lambda: publications_of(warehouse, snapshot))

    def is_current(self, snapshot: Snapshot, known: Mapping[str, str]) -> bool:
        """Tell whether the source has no newer manifest than these, as this run knows it; see Source.is_current."""
        about = (snapshot, *known.items())
        return self.answers.ask("source", about, lambda: self.source.is_current(snapshot, known))

    def _connect(self, network: str, answer_seconds: float) -> Warehouse | Shard:
        chosen, database, days = self.settings, self.settings.database(network), self.settings.window_days
        if self.engine is not None:
            return EmbeddedWarehouse(self.engine, database, days)
        replication = Replication(
            chosen.clickhouse_replicated, chosen.clickhouse_replica_path, min_copies=chosen.clickhouse_min_copies
        )
        account = (chosen.clickhouse_user, chosen.clickhouse_password, chosen.clickhouse_secure)
        servers = [(each, answer_seconds) for each in chosen.servers(network)]
        for each in servers:  # one connection for all networks: a statement names its database
            self._servers.setdefault(each, ClickHouse(each[0], *account, ROLE, answer_seconds))
        hosts = [ServerWarehouse(self._servers[each], database, days, replication) for each in servers]
        if not hosts:
            raise ValueError(f"no ClickHouse server for {network}; the settings were not checked")
        return Shard(hosts) if len(hosts) > 1 else hosts[0]

    def try_hosts(self, network: str, call: Callable[[], T]) -> T:
        """Call; where the network has several replicas, call again on the next one when one does not answer.

        With one server it is each statement that is tried again.
        """
        return call() if len(self.warehouse(network).hosts) == 1 else retry_call(call)

    @cached_property
    def ownership(self) -> Ownership:
        """The snapshots that this run alone works on."""
        return Ownership(lambda snapshot: self.workspace(snapshot).run_lock(), self.claims)

    @cached_property
    def claims(self) -> Claims | None:
        """The claims of a run, which has locked what it claims; an embedded warehouse has a single user."""
        return self.claims_of("", locked=True)

    def claims_of(self, verb: str, *, locked: bool = False) -> Claims | None:
        """Return claims of a verb that keeps runs out, those of this deployment too, as they keep it out."""
        if self.is_embedded:
            return None
        owner = f"{socket.gethostname()}:{self.settings.work_path.absolute()} {verb}".strip()
        who = Claimant(owner, self.run_id, locked)
        return Claims(lambda network: self.warehouse(network, timeout=QUICK_SECONDS), who)

    def workspace(self, snapshot: Snapshot) -> Workspace:
        """Return the snapshot's work directory."""
        chosen = self.settings
        return Workspace(chosen.work_path.absolute(), snapshot, chosen.allow_md5, chosen.tables)

    def close(self) -> None:
        """Let go of the embedded ClickHouse, so that another process can open it."""
        if self.engine is not None:
            self.engine.close()


@cache
def get_context() -> Context:
    """Return the context of this process. Raises ConfigError."""
    return Context(get_settings(), run_id=logs.run_id())
