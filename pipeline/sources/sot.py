"""Snapshots in the SOT ClickHouse itself: exported to Parquet files and a manifest, then read like any other.

Nobody publishes a manifest there, so it is made here, last: row counts, the SHA-256 of each file, and a digest over
the cells that the SOT ClickHouse computes over the same rows (:mod:`pipeline.digest`). The same digest over the
loaded rows must be equal: a proof from one end to the other that needs no trust in the files between.

The export lies in the bucket's layout under a directory of ours::

    snapshots/{network}/{processing_date}/{window_days}/
        state.json                      since when the rows have been what they are
        alerts.parquet  …               one file a table
        alerts.json  …                  the proof that its rows are those of the state
        META.json                       written last
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loguru import logger

from pipeline import files
from pipeline.attempts import with_backoff
from pipeline.clickhouse import ClickHouse, Role
from pipeline.digest import content_digest
from pipeline.errors import SchemaError, SourceChangedError, SourceError, SourceUnavailableError
from pipeline.snapshot import MANIFEST_NAME, Snapshot
from pipeline.sources import ManifestText, RemoteFile, newest_first
from pipeline.sources.directory import DirectorySource
from pipeline.tables import TABLES, Column, Table
from pipeline.validate import read_footer

#: Where upstream keeps what the four tables hold; ReplacingMergeTree(_version), read with FINAL.
SOT_TABLES = {
    "raw_alerts": "analyzers_alerts",
    "raw_features": "analyzers_features",
    "raw_clusters": "analyzers_alert_clusters",
    "raw_address_labels": "core_address_labels",
}

ROLE = Role(
    variables="SOT",
    error=SourceError,
    unavailable=SourceUnavailableError,
    missing=SourceError,
    refused_rows=SourceError,
)

_RECENT_SECONDS = 10.0

_MOVED = "upstream is still writing: the files were thrown away; run again"


@dataclass(frozen=True)
class TableState:
    """What a table of the SOT holds for a snapshot."""

    rows: int
    content_digest: str  #: hex; see pipeline.digest


State = dict[str, TableState]


class SotSource:
    """The SOT ClickHouse as a source.

    ``settle_seconds`` is how long the rows of a snapshot must have stayed the same before it counts as written.
    ``may_be_empty`` names the tables that a snapshot may have no rows in.
    """

    def __init__(
        self,
        server: ClickHouse,
        database: str,
        export: Path,
        *,
        settle_seconds: float,
        may_be_empty: tuple[str, ...] = (),
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._server = server
        self._database_pattern = database
        self._export = export
        self._settle_seconds = settle_seconds
        self._may_be_empty = may_be_empty
        self._sleep = sleep
        self._exported = DirectorySource(export)
        self._seen: dict[Snapshot, tuple[float, State]] = {}  #: when the SOT was asked, and what it said

    @property
    def uri(self) -> str:
        """Server and database, for people."""
        return f"clickhouse://{self._server.address.host}:{self._server.address.port}/{self._database_pattern}"

    # What the graph asks of every source

    def is_ready(self, snapshot: Snapshot) -> bool:
        """Tell whether every table has rows and they have settled.

        Waits ``settle_seconds`` where it has not seen these rows before.
        """
        state = self._recent(snapshot)
        if not self._has_rows(state):
            return False
        if self._has_settled(snapshot, state):
            return True
        logger.bind(seconds=self._settle_seconds).info("Waiting to see whether upstream still writes")
        self._sleep(self._settle_seconds)
        later = self._state(snapshot)
        return later == state or self._has_settled(snapshot, later)

    def manifest_uri(self, snapshot: Snapshot) -> str | None:
        """Ask for counts and digests, at most every few seconds; None while a table has no rows."""
        state = self._recent(snapshot)
        return self._uri(snapshot, state) if self._has_rows(state) else None

    def is_current(self, snapshot: Snapshot, uri: str, sha256: str) -> bool:
        """Compare digests of rows: the manifest is ours and says nothing that they do not."""
        del sha256
        return self.manifest_uri(snapshot) in {None, uri}

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """Export what is not exported yet, write the manifest, return it.

        Raises SourceUnavailableError, after throwing the files away, when rows changed meanwhile.
        """
        state = self._state(snapshot)
        if not self._has_rows(state):
            return None
        for table in TABLES:
            if not self._is_exported(snapshot, table, state):
                self._export_table(snapshot, table, state[table.name])
        self._require(snapshot, state)
        self._write_manifest(snapshot, state)
        text = self._exported.read_manifest(snapshot)
        return ManifestText(text.data, self._uri(snapshot, state)) if text else None

    def confirm(self, snapshot: Snapshot, table: Table, content_digest: str | None) -> None:
        """Ask for the table's digest once more. Raises SourceChangedError, after throwing the files away."""
        now = self._table_state(snapshot, table)
        if now.content_digest != content_digest:
            self.discard(snapshot)
            raise SourceChangedError(
                f"{self.uri}: {SOT_TABLES[table.name]} changed since its manifest was made: its rows have digest "
                f"{now.content_digest}, the manifest says {content_digest}",
                hint=_MOVED,
            )

    def find(self, key: str) -> RemoteFile | None:
        """Look into the export."""
        return self._exported.find(key)

    def read(self, file: RemoteFile) -> Iterator[bytes]:
        """Read from the export."""
        return self._exported.read(file)

    def manifests(self, network: str) -> Iterator[Snapshot]:
        """Name no snapshot: nothing is superseded here, every export is of what the tables hold."""
        del network
        return newest_first(())

    def discard(self, snapshot: Snapshot) -> None:
        """Remove the export of a snapshot."""
        files.remove_directory(self._folder(snapshot), below=self._export)

    # The rows

    def _state(self, snapshot: Snapshot) -> State:
        """Ask the SOT for the count and the digest of each table's rows."""
        state = {table.name: self._table_state(snapshot, table) for table in TABLES}
        self._seen[snapshot] = (time.monotonic(), state)
        return state

    def _recent(self, snapshot: Snapshot) -> State:
        """Return what the SOT said a few seconds ago: luigi asks whether a task is done several times in a row."""
        asked, state = self._seen.get(snapshot, (0.0, {}))
        return state if state and time.monotonic() - asked < _RECENT_SECONDS else self._state(snapshot)

    def _has_rows(self, state: State) -> bool:
        return all(seen.rows or name in self._may_be_empty for name, seen in state.items())

    def _require(self, snapshot: Snapshot, state: State) -> None:
        """Raise SourceUnavailableError, after throwing the files away, unless the SOT still holds this."""
        now = self._state(snapshot)
        if now != state:
            self.discard(snapshot)
            raise SourceUnavailableError(f"{self.uri}: {_difference(state, now)}", hint=_MOVED)

    def _table_state(self, snapshot: Snapshot, table: Table) -> TableState:
        values = {
            column.name: self._value(table, column, brought=self._columns(snapshot, table).get(column.name))
            for column in table.file_columns
        }
        digest = content_digest(table, values)
        ((rows, found),) = self._query(snapshot, f"SELECT count(), {digest} {self._rows_of(snapshot, table)}")
        return TableState(rows, found)

    def _value(self, table: Table, column: Column, *, brought: str | None) -> str:
        """Return a column as our table stores it, so that both digests are over the same types."""
        if column.name in table.snapshot_columns:
            return f"{{{column.name}:{column.type}}}"
        if brought == column.type:
            return column.name
        cast = "accurateCast" if column.type.removeprefix("Array(").startswith(("UInt", "Int")) else "CAST"
        return f"{cast}({column.name}, '{column.type}')"

    def _columns(self, snapshot: Snapshot, table: Table) -> dict[str, str]:
        """Return names and types of a SOT table. Raises SourceError when there is none that we may read."""
        rows = self._query(snapshot, f"DESCRIBE TABLE {self._name(snapshot, table)}")
        return {row[0]: row[1] for row in rows}

    def _rows_of(self, snapshot: Snapshot, table: Table) -> str:
        where = "network = {network:String}" if table.shared else _OF_SNAPSHOT
        return f"FROM {self._name(snapshot, table)} FINAL WHERE {where}"

    def _name(self, snapshot: Snapshot, table: Table) -> str:
        return f"`{self._database_pattern.replace('{network}', snapshot.network)}`.{SOT_TABLES[table.name]}"

    def _query(self, snapshot: Snapshot, statement: str) -> list[tuple[Any, ...]]:
        return with_backoff(lambda: self._server.query(statement, _parameters(snapshot)))

    # The export

    def _export_table(self, snapshot: Snapshot, table: Table, expected: TableState) -> None:
        """Stream a table into its file and prove that the file has the rows of the state."""
        columns = self._export_columns(snapshot, table)
        statement = f"SELECT {columns} {self._rows_of(snapshot, table)} FORMAT Parquet"
        path, digest, size = self._file(snapshot, table), hashlib.sha256(), 0
        with files.replacing(path) as file:
            for piece in self._server.receive(statement, _parameters(snapshot)):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        if (now := self._table_state(snapshot, table)) != expected:
            self.discard(snapshot)
            moved = _difference({table.name: expected}, {table.name: now})
            raise SourceUnavailableError(f"{self.uri}: {moved}", hint=_MOVED)
        if (rows := read_footer(path, path.name).rows) != expected.rows:
            path.unlink()
            raise SourceUnavailableError(
                f"{self.uri}: {SOT_TABLES[table.name]} has {expected.rows} rows, {rows} arrived", hint="run again"
            )
        files.write_proof(path.with_suffix(".json"), {**asdict(expected), "sha256": digest.hexdigest(), "bytes": size})
        logger.bind(table=table.name, rows=expected.rows, bytes=size).info("Exported table")

    def _export_columns(self, snapshot: Snapshot, table: Table) -> str:
        """Return what is selected: everything but dropped columns, with text where Parquet would say bytes."""
        found = self._columns(snapshot, table)
        unknown = found.keys() - {*table.dropped_columns, "created_at", *(c.name for c in table.file_columns)}
        if unknown:
            listed = ", ".join(f"{name} {found[name]}" for name in sorted(unknown))
            raise SchemaError(
                f"{SOT_TABLES[table.name]}: unexpected columns: {listed}",
                hint=f"decide about them: add them to schema/{table.loads}.sql, or ask upstream",
            )
        missing = [c.name for c in table.file_columns if c.name not in {*found, *table.snapshot_columns}]
        if missing:
            raise SchemaError(f"{SOT_TABLES[table.name]}: missing columns: {', '.join(missing)}", hint="ask upstream")
        names = [c.name for c in table.file_columns if c.name in found]
        return ", ".join(f"toString({n}) AS {n}" if found[n].startswith(("Enum", "FixedString")) else n for n in names)

    def _is_exported(self, snapshot: Snapshot, table: Table, state: State) -> bool:
        path = self._file(snapshot, table)
        proof = files.read_proof(path.with_suffix(".json"))
        if proof is None or not path.exists() or path.stat().st_size != proof["bytes"]:
            return False
        return TableState(proof["rows"], proof["content_digest"]) == state[table.name]

    def _write_manifest(self, snapshot: Snapshot, state: State) -> None:
        """Write META.json in upstream's current dialect, with the digests of the rows beside those of the files."""
        proofs = {table: files.read_proof(self._file(snapshot, table).with_suffix(".json")) for table in TABLES}
        document = {
            "schema_version": "1.0.0",
            "batch_id": f"{snapshot.network}-{snapshot.processing_date}-{snapshot.window_days}d",
            "network": snapshot.network,
            "processing_date": snapshot.processing_date.isoformat(),
            "window_days": snapshot.window_days,
            "generated_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "counts": {table.stem: state[table.name].rows for table in TABLES},
            "sha256": {f"{table.stem}.parquet": (proof or {})["sha256"] for table, proof in proofs.items()},
            "content_digests": {table.stem: state[table.name].content_digest for table in TABLES},
        }
        with files.replacing(self._folder(snapshot) / MANIFEST_NAME) as file:
            file.write(json.dumps(document, indent=2).encode())

    # What was seen

    def _has_settled(self, snapshot: Snapshot, state: State) -> bool:
        """Tell whether these rows were seen at least ``settle_seconds`` ago; remember them if never."""
        seen = files.read_proof(self._folder(snapshot) / "state.json")
        version = self._version(state)
        if seen is None or seen["version"] != version:
            files.write_proof(self._folder(snapshot) / "state.json", {"version": version, "since": time.time()})
            return self._settle_seconds <= 0
        return bool(time.time() - seen["since"] >= self._settle_seconds)

    def _folder(self, snapshot: Snapshot) -> Path:
        return self._export / snapshot.folder

    def _file(self, snapshot: Snapshot, table: Table) -> Path:
        return self._folder(snapshot) / f"{table.stem}.parquet"

    def _uri(self, snapshot: Snapshot, state: State) -> str:
        return f"{self.uri.replace('{network}', snapshot.network)}/{snapshot}#{self._version(state)}"

    @staticmethod
    def _version(state: State) -> str:
        text = json.dumps({name: asdict(seen) for name, seen in sorted(state.items())})
        return hashlib.sha256(text.encode()).hexdigest()[:32]


_OF_SNAPSHOT = "processing_date = {processing_date:Date} AND window_days = {window_days:UInt16}"


def _parameters(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "network": snapshot.network,
        "processing_date": snapshot.processing_date.isoformat(),
        "window_days": snapshot.window_days,
    }


def _difference(before: State, after: State) -> str:
    return "; ".join(
        f"{SOT_TABLES[name]} changed while it was read: {seen.rows} rows with digest {seen.content_digest} before, "
        f"{after[name].rows} with {after[name].content_digest} after"
        for name, seen in before.items()
        if after[name] != seen
    )
