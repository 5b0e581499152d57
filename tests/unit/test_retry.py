"""Trying again: how often a dead service is asked, for each kind of call, and how the layers go together."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from pipeline import retry
from pipeline.clickhouse import ClickHouse, Role
from pipeline.errors import FileError, PipelineError, SourceUnavailableError, WarehouseUnavailableError
from pipeline.files.parquet import read_footer
from pipeline.settings import ServerAddress
from pipeline.sources import RemoteFile
from pipeline.sources.s3 import S3Source
from pipeline.sources.sot_tables import ROLE as SOT_ROLE
from pipeline.sources.sot_tables import SotTables
from pipeline.tables import BY_NAME, TABLES
from pipeline.warehouse import ROLE, Warehouse
from pipeline.warehouse.claims import Claimant, take_claim
from pipeline.warehouse.ledger import LedgerEntry, find_proven_loads, forget_loads, record_load
from pipeline.warehouse.load import ProvenFile, load_file
from pipeline.warehouse.publications import Publication, publications_of
from pipeline.warehouse.publish import publish_after, publish_loads
from pipeline.warehouse.schema import ensure_claims, ensure_schema, ensure_table
from pipeline.warehouse.server import ServerWarehouse
from pipeline.warehouse.step_log import StepRecord, insert_records
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import a_day

DAY = a_day()
TABLE = BY_NAME["raw_alerts"]
ATTEMPTS = 3


@dataclass
class Mortal:
    """A TCP proxy that passes connections on until it dies; then it closes each new one, and counts them."""

    backend: tuple[str, int] | None = None
    dead: bool = True
    refused: int = 0  #: connections since its death
    port: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Mortal]:
        """Listen on a port of 127.0.0.1 while the block runs."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            yield self
            self.die()

    def die(self) -> None:
        """Close all connections and take no more."""
        self.dead = True
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # the test is over
            if self.dead or self.backend is None:
                self.refused += 1
                client.close()
                continue
            server = socket.create_connection(self.backend)
            self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try as often as ever, without waiting in between."""
    monkeypatch.setattr(retry, "DEFAULT", replace(retry.DEFAULT, first_wait=0.0))


@pytest.fixture
def dead() -> Iterator[Mortal]:
    """A service that is dead."""
    with Mortal().running() as service:
        yield service


def client(port: int, http_port: int, role: Role = ROLE, server: ClickHouseServer | None = None) -> ClickHouse:
    """Return a client of a server on 127.0.0.1."""
    user, password = (server.user, server.password) if server else ("default", "")
    return ClickHouse(ServerAddress("127.0.0.1", port, http_port), user, SecretStr(password), secure=False, role=role)


def a_load() -> LedgerEntry:
    """Return the ledger's first row about a load of the day."""
    now = datetime(2025, 8, 2, tzinfo=UTC)
    facts = ("", "alerts.parquet", "", 1, "sha256", "", "")
    return LedgerEntry(DAY.processing_date, DAY.window_days, TABLE.name, str(uuid4()), "started", now, *facts)


def a_publication() -> Publication:
    """Return a publication of no load."""
    now = datetime(2025, 8, 2, tzinfo=UTC)
    return Publication(DAY.processing_date, DAY.window_days, str(uuid4()), "publish", "", {}, {}, "", now, "", "")


def a_file(samples: Path) -> ProvenFile:
    """Return the alerts of a sample."""
    path = samples / DAY.folder / "alerts.parquet"
    from pipeline.files.atomic import sha256_of  # noqa: PLC0415

    sha256 = sha256_of(path)
    footer = read_footer(path, path.name)
    size = path.stat().st_size
    return ProvenFile(TABLE, path, path.name, sha256, size, footer, "sha256", "", "", "", None)


def publish_nothing(warehouse: Warehouse) -> None:
    """Publish loads through the whole of it."""
    publish_loads(
        warehouse, DAY, manifest_sha256="", source="", loads={}, run_id="", is_upstreams=lambda _uri, _sha: False
    )


#: What asks the warehouse, by what it is for, and how often a dead one may be asked in one attempt of a step. A
#: statement that may not be run twice is tried once.
WAREHOUSE: dict[str, tuple[Callable[[Warehouse, Path], object], int]] = {
    "a query": (lambda warehouse, _: warehouse.query("SELECT 1"), 5),
    "a statement": (lambda warehouse, _: warehouse.execute("SELECT 1"), 1),
    "the schema": (lambda warehouse, _: ensure_schema(warehouse), 5),
    "a table": (lambda warehouse, _: ensure_table(warehouse, "sot_steps"), 5),
    "the table of claims": (lambda warehouse, _: ensure_claims(warehouse), 5),
    "a claim": (lambda warehouse, _: take_claim(warehouse, DAY, Claimant("host", "run")), 5),
    "a row of the ledger": (lambda warehouse, _: record_load(warehouse, a_load()), 5),
    "taking proofs back": (lambda warehouse, _: forget_loads(warehouse, DAY, (TABLE.name,)), 5),
    "the proof of a load": (lambda warehouse, _: find_proven_loads(warehouse, DAY, {TABLE.name: ""}), 5),
    "publications": (lambda warehouse, _: publications_of(warehouse, DAY), 5),
    "publishing": (lambda warehouse, _: publish_nothing(warehouse), 5),
    "the row of a publication": (lambda warehouse, _: publish_after(warehouse, DAY, a_publication(), after=None), 5),
    "a load": (lambda warehouse, samples: load_file(warehouse, DAY, a_file(samples)), 5),
    "records of steps": (
        lambda warehouse, _: insert_records(
            warehouse, StepRecord(DAY, "LoadTable", "", "failed", datetime(2025, 8, 2, tzinfo=UTC), 0.0)
        ),
        1,
    ),
}


@pytest.mark.parametrize("kind", WAREHOUSE)
def test_a_dead_warehouse_is_asked_attempts_times_tries(dead: Mortal, samples: Path, kind: str) -> None:
    """However many functions a call passes through, one of them tries it again, and then the step does."""
    call, most = WAREHOUSE[kind]
    warehouse = ServerWarehouse(client(dead.port, dead.port), "torus", 195)
    with pytest.raises(WarehouseUnavailableError):
        retry.retry_step(lambda: call(warehouse, samples), attempts=ATTEMPTS, delay=0)
    assert dead.refused == ATTEMPTS * most


SOURCE: dict[str, Callable[[S3Source], object]] = {
    "is_ready": lambda source: source.is_ready(DAY),
    "read_manifest": lambda source: source.read_manifest(DAY),
    "is_current": lambda source: source.is_current(DAY, {}),
    "find": lambda source: source.find("key"),
    "read": lambda source: list(source.read(RemoteFile("key", 4, "etag"))),
    "manifests": lambda source: list(source.manifests("torus")),
}


@pytest.mark.parametrize("kind", SOURCE)
def test_a_dead_store_is_asked_attempts_times_tries(dead: Mortal, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 tries nothing again by itself."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    source = S3Source("bucket", endpoint=f"http://127.0.0.1:{dead.port}", region="us-east-1")
    with pytest.raises(SourceUnavailableError, match="5 tries in a row"):
        retry.retry_step(lambda: SOURCE[kind](source), attempts=ATTEMPTS, delay=0)
    assert dead.refused == ATTEMPTS * 5


def test_a_dead_sot_is_asked_attempts_times_tries(dead: Mortal) -> None:
    """The source that is a ClickHouse server tries as the warehouse does."""
    tables = SotTables(client(dead.port, dead.port, SOT_ROLE), "sot")
    with pytest.raises(SourceUnavailableError):
        retry.retry_step(lambda: tables.state(DAY, TABLES), attempts=ATTEMPTS, delay=0)
    assert dead.refused == ATTEMPTS * 5


def test_an_insert_that_cannot_be_sent_is_tried_under_new_load_ids(
    clickhouse: ClickHouseServer, database_prefix: str, dead: Mortal, samples: Path
) -> None:
    """Native port alive, HTTP port dead: five INSERTs, each told in the ledger as failed."""
    warehouse = ServerWarehouse(client(clickhouse.port, dead.port, server=clickhouse), f"{database_prefix}torus", 195)
    ensure_schema(warehouse)
    with pytest.raises(WarehouseUnavailableError):
        load_file(warehouse, DAY, a_file(samples))
    assert dead.refused == 5
    states = warehouse.query("SELECT toString(state), uniqExact(load_id) FROM {database}.sot_table_loads GROUP BY 1")
    assert dict(states) == {"started": 5, "failed": 5}


def test_a_warehouse_that_dies_while_a_table_is_loaded(
    clickhouse: ClickHouseServer, database_prefix: str, samples: Path
) -> None:
    """The comparison is tried five times, each move of taking back as often as it may be, and the load not again."""
    with Mortal((clickhouse.host, clickhouse.port), dead=False).running() as native:
        server = client(native.port, clickhouse.http_port, server=clickhouse)
        warehouse = ServerWarehouse(server, f"{database_prefix}torus", 195)
        ensure_schema(warehouse)
        with pytest.raises(WarehouseUnavailableError):
            load_file(warehouse, DAY, a_file(samples), lambda _: native.die())
        with closing(socket.create_connection(("127.0.0.1", native.port))) as last:
            last.recv(1)  # those before it have been counted
    assert native.refused - 1 == sum({"compare": 5, "kill": 1, "drop": 1, "ledger": 5}.values())


def test_what_cannot_get_better_is_not_tried_again() -> None:
    """Neither by the call nor by the step."""
    made = []

    def call() -> None:
        made.append(1)
        raise FileError("bad", hint="")

    with pytest.raises(FileError, match=r"^bad$"):
        retry.retry_step(lambda: retry.retry_call(call), attempts=ATTEMPTS, delay=0)
    assert len(made) == 1


def test_a_call_that_succeeds_at_last_gives_what_it_returns() -> None:
    """Two faults, then the answer; a layer around it does not notice."""
    faults: list[PipelineError] = [WarehouseUnavailableError(str(number), hint="") for number in range(2)]

    def call() -> int:
        if faults:
            raise faults.pop()
        return 7

    assert retry.retry_call(lambda: retry.retry_call(call)) == 7


def test_where_nobody_may_wait_a_step_is_postponed() -> None:
    """Only what another attempt can help: bad data fails at once there, too."""
    calls = []

    def call(error: PipelineError) -> None:
        calls.append(error)
        raise error

    down, bad = SourceUnavailableError("down", hint="wait"), FileError("bad", hint="fetch")
    with retry.postponing() as postponement:
        with pytest.raises(FileError):
            retry.retry_step(lambda: call(bad), attempts=ATTEMPTS, delay=3_600)
        assert not postponement.is_needed
        with pytest.raises(retry.PostponedError):
            retry.retry_step(lambda: call(down), attempts=ATTEMPTS, delay=3_600)
        assert postponement.is_needed
    assert calls == [bad, down]
    with pytest.raises(SourceUnavailableError):
        retry.retry_step(lambda: call(down), attempts=ATTEMPTS, delay=0)
    assert len(calls) == 2 + ATTEMPTS


def test_the_only_attempt_of_a_step_is_not_postponed() -> None:
    """Another process would do nothing else."""

    def call() -> None:
        raise SourceUnavailableError("down", hint="wait")

    with retry.postponing() as postponement, pytest.raises(SourceUnavailableError):
        retry.retry_step(call, attempts=1, delay=3_600)
    assert not postponement.is_needed
