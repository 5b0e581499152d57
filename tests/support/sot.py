"""A database like upstream's SOT, filled from snapshots with several versions of every key; and a gate before it."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import urllib3

from pipeline.graph import auditing, steps, targets
from pipeline.graph.context import Context
from pipeline.settings import load_settings
from pipeline.snapshot import Snapshot
from tests.support.clickhouse import ClickHouseError, ClickHouseServer
from tests.support.deployment import Deployment, multiset
from tests.support.snapshots import LABELS, SnapshotFiles, contract

#: Table of ours: table of theirs, and the key by which ReplacingMergeTree replaces.
THEIRS = {
    "raw_alerts": ("analyzers_alerts", "processing_date, window_days, alert_id"),
    "raw_features": ("analyzers_features", "processing_date, window_days, address"),
    "raw_clusters": ("analyzers_alert_clusters", "processing_date, window_days, cluster_id"),
    LABELS: ("core_address_labels", "network, address, label"),
}


class Sot:
    """One database of upstream's. ``types`` are those of columns that are not typed as ours are."""

    def __init__(self, server: ClickHouseServer, database: str, types: dict[str, str] | None = None) -> None:
        self.server, self.database, self.types = server, database, types or {}
        server.http(f"CREATE DATABASE {database}")
        for table in THEIRS:
            self._create(table)

    def columns(self, table: str) -> dict[str, str]:
        """Return upstream's columns: the labels know no date, and have times of their own."""
        ours = {name: kind for name, kind in contract()[table].items() if name != "created_at"}
        if table == LABELS:
            ours = {name: kind for name, kind in ours.items() if name not in {"processing_date", "window_days"}}
            ours |= {"created_timestamp": "UInt64", "updated_timestamp": "UInt64"}
        return {name: self.types.get(name, kind) for name, kind in ours.items()}

    def _create(self, table: str) -> None:
        name, key = THEIRS[table]
        columns = ", ".join(f"{column} {kind}" for column, kind in self.columns(table).items())
        self.server.http(
            f"CREATE TABLE {self.database}.{name} ({columns}, _version UInt64) "
            f"ENGINE = ReplacingMergeTree(_version) ORDER BY ({key}) SETTINGS allow_nullable_key = 1"
        )

    def fill(self, files: SnapshotFiles) -> None:
        """Insert a snapshot's rows as version 2, and before and after them, as version 1, others of the same keys."""
        for table in THEIRS:
            self._fill(table, files.path(table).read_bytes())

    def _fill(self, table: str, data: bytes) -> None:
        name, key = THEIRS[table]
        columns = self.columns(table)
        ours = {**contract()[table], "created_timestamp": "UInt64", "updated_timestamp": "UInt64"}
        structure = ", ".join(f"{column} {ours[column]}" for column in columns)
        text = next(column for column, kind in columns.items() if kind == "String" and column not in key)
        listed = ", ".join(columns)
        older = ", ".join(f"'superseded' AS {column}" if column == text else column for column in columns)
        for values, version in ((older, 1), (listed, 2), (older, 1)):
            statement = (
                f"INSERT INTO {self.database}.{name} ({listed}, _version) "
                f"SELECT {values}, {version} FROM input('{structure}') FORMAT Parquet"
            )
            self._post(statement.encode() + b"\n" + data)

    def fill_with(self, snapshot: Snapshot, rows: dict[str, int]) -> None:
        """Let the server make up rows of its own, so many keys a table; every tenth has a superseded version."""
        for table, (name, _) in THEIRS.items():
            columns = self.columns(table)
            values = [_made_up(column, kind, snapshot) for column, kind in columns.items()]
            for count, version in ((rows[table] // 10, 1), (rows[table], 2)):
                self.server.http(
                    f"INSERT INTO {self.database}.{name} ({', '.join(columns)}, _version) "
                    f"SELECT {', '.join(values)}, {version} FROM numbers({count})"
                )

    def final(self, table: str, where: str) -> list[tuple[Any, ...]]:
        """Return what FINAL gives, in the columns that both know."""
        columns = ", ".join(self.known(table))
        query = f"SELECT {columns} FROM {self.database}.{THEIRS[table][0]} FINAL WHERE {where} FORMAT Parquet"
        columns_found = pq.read_table(io.BytesIO(self._post(query.encode()))).columns
        return list(zip(*[column.to_pylist() for column in columns_found], strict=True))

    def known(self, table: str) -> list[str]:
        """Return the columns that both know."""
        return [name for name in self.columns(table) if not name.endswith("d_timestamp")]

    def assert_readers_see_final(self, deployment: Deployment, snapshot: Snapshot) -> None:
        """Compare every cell of all four views with what FINAL gives now."""
        of_day = f"processing_date = '{snapshot.processing_date}' AND window_days = {snapshot.window_days}"
        with deployment.reader.held():
            for table in THEIRS:
                seen = f"SELECT {', '.join(self.known(table))} FROM {{db}}.{table} WHERE {of_day}"
                where = f"network = '{snapshot.network}'" if table == LABELS else of_day
                final = multiset(self.final(table, where))
                assert final, table
                assert multiset(deployment.query(snapshot.network, seen)) == final, table

    def _post(self, body: bytes) -> bytes:
        headers = {"X-ClickHouse-User": self.server.user, "X-ClickHouse-Key": self.server.password}
        url = f"http://{self.server.host}:{self.server.http_port}/"
        answer = urllib3.request("POST", url, body=body, headers=headers)
        if answer.status != 200:
            raise ClickHouseError(answer.data.decode()[:1_000])
        return answer.data

    def variables(self, **changed: str) -> dict[str, str]:
        """Return what points the pipeline at it, for torus alone."""
        return {
            "INGESTION_NETWORKS": "torus",
            "SOT_HOST": self.server.host,
            "SOT_PORT": str(self.server.port),
            "SOT_HTTP_PORT": str(self.server.http_port),
            "SOT_DATABASE": self.database,
            "SOT_USER": self.server.user,
            "SOT_PASSWORD": self.server.password,
            "SOT_SETTLE_SECONDS": "0",
            **changed,
        }


#: Expressions of number, by type; a text has the length of an address.
_MADE_UP = {
    "String": "concat('0x', hex(cityHash64(number, '{column}')), hex(number))",
    "Bool": "number % 7 = 0",
    "Decimal(38, 18)": "toDecimal128(cityHash64(number, '{column}') % 1000000 / 7, 18)",
    "Array(String)": "[hex(number), '{column}']",
    "Array(UInt16)": "arrayMap(hour -> toUInt16(cityHash64(number, hour) % 100), range(24))",
}


def _made_up(column: str, kind: str, snapshot: Snapshot) -> str:
    of_snapshot = {
        "network": f"'{snapshot.network}'",
        "processing_date": f"'{snapshot.processing_date}'",
        "window_days": str(snapshot.window_days),
    }
    number = "cityHash64(number, '{column}') % 200" + (" / 7" if kind.startswith("Float") else "")
    return of_snapshot.get(column) or _MADE_UP.get(kind, number).replace("{column}", column)


def context_of(deployment: Deployment) -> Context:
    """Return the context of a new run of this deployment, in the test's own process: a server is the warehouse."""
    with patch.dict(os.environ, deployment.environment):
        return Context(load_settings())


def ingest(deployment: Deployment, snapshot: Snapshot, before: Callable[[str], object] = lambda _: None) -> list[str]:
    """Do what the graph does, without luigi and without a process: each step that has no proof; return those done.

    Loads come after all that comes before any load, so that it is known what is done when one of them fails.

    ``before`` is told of each step. Raises the errors that the steps raise.
    """
    context, done = context_of(deployment), []
    if targets.CleanedUp(context, snapshot).exists():  # luigi asks the last step first
        return []
    assert context.source.wait_until_ready(snapshot), context.source.absence(snapshot)

    def step(name: str, target: targets.SnapshotTarget, work: Callable[..., object], *arguments: object) -> None:
        if not target.exists():  # type: ignore[no-untyped-call]  # luigi's has no annotations
            before(name)
            work(context, snapshot, *arguments)
            done.append(name)

    if context.sot and not targets.ManifestOnDisk(context, snapshot).exists():
        for table in context.settings.tables:
            exported = targets.ExportedTable(context, snapshot, table)
            step(f"ExportTable {table.name}", exported, steps.export_table, table, unheard)
        step("WriteManifest", targets.WrittenManifest(context, snapshot), steps.write_manifest, unheard)
    step("DownloadManifest", targets.ManifestOnDisk(context, snapshot), steps.download_manifest)
    step("ValidateManifest", targets.ValidManifest(context, snapshot), steps.validate_manifest)
    for table in context.settings.tables:
        target: targets.SnapshotTarget = targets.FileOnDisk(context, snapshot, table)
        step(f"DownloadFile {table.name}", target, steps.download_file, table, unheard)
        target = targets.ValidFile(context, snapshot, table, "validate-file")
        step(f"ValidateFile {table.name}", target, steps.validate_file, table)
        target = targets.ValidFile(context, snapshot, table, "validate-checksum")
        step(f"ValidateChecksum {table.name}", target, steps.validate_checksum, table, unheard)
    for table in context.settings.tables:
        target = targets.TableLoad(context, snapshot, table)
        step(f"LoadTable {table.name}", target, steps.load_table, table, unheard)
    step("AuditSnapshot", targets.AuditedLoads(context, snapshot), auditing.audit_snapshot)
    step("PublishSnapshot", targets.PublishedSnapshot(context, snapshot), steps.publish_snapshot)
    step("CleanUp", targets.CleanedUp(context, snapshot), steps.clean_up)
    return done


def at(step: str, act: Callable[[], object]) -> Callable[[str], None]:
    """Return what :func:`ingest` tells of its steps, to act before one of them."""

    def before(name: str) -> None:
        if name == step:
            act()

    return before


def unheard(*_: object) -> None:
    """Take a report of progress."""


@dataclass
class Gate:
    """Two TCP proxies before a server; every statement passes a function first, which may take its time, or act.

    A statement is what a client sends at once: small ones are not cut.
    """

    server: ClickHouseServer
    before: Callable[[bytes], None]
    ports: list[int] = field(default_factory=list)  #: native, HTTP

    @contextlib.contextmanager
    def open(self) -> Iterator[Gate]:
        """Listen on two ports of 127.0.0.1 while the block runs."""
        with contextlib.ExitStack() as stack:
            for backend in (self.server.port, self.server.http_port):
                listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                self.ports.append(int(listener.getsockname()[1]))
                threading.Thread(target=self._serve, args=(listener, backend), daemon=True).start()
            yield self

    @property
    def variables(self) -> dict[str, str]:
        """What points the pipeline at it."""
        return {"SOT_PORT": str(self.ports[0]), "SOT_HTTP_PORT": str(self.ports[1])}

    def _serve(self, listener: socket.socket, backend: int) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection((self.server.host, backend))
            except OSError:  # the test is over, or the server was killed: then the client sees its connection end
                if listener.fileno() < 0:
                    return
                client.close()
                continue
            for end in (client, server):  # what waits for more to send takes 40 ms a question
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(client, server, self.before), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, lambda _: None), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, before: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                before(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
