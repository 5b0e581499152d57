"""Snapshots in the SOT ClickHouse itself: exported to Parquet files and a manifest, then read like any other.

Nobody publishes a manifest there, so it is made here, last: row counts, the SHA-256 of each file, and a digest over
the cells that the SOT ClickHouse computes over the same rows (:mod:`pipeline.digest`). The same digest over the
loaded rows must be equal: a proof from one end to the other that needs no trust in the files between.

The files are written by DownloadManifest, for a manifest with their SHA-256 cannot be there before them; DownloadFile
then reads them as it reads those of a directory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from pipeline.clickhouse import ClickHouse
from pipeline.errors import FileError, SourceChangedError, SourceUnavailableError
from pipeline.snapshot import Snapshot
from pipeline.sources import ManifestText, RemoteFile, newest_first
from pipeline.sources.directory import DirectorySource
from pipeline.sources.sot_export import Export, version_of
from pipeline.sources.sot_tables import SOT_TABLES, SotTables, State, TableState
from pipeline.tables import TABLES, Table

_RECENT_SECONDS = 10.0

_STILL_WRITING = "upstream is still writing: the files were thrown away; run again"
_NOT_SETTLED = "upstream is still writing: run again, or set SOT_SETTLE_SECONDS to wait for less"


@dataclass(frozen=True)
class _Seen:
    """What the SOT said about a snapshot."""

    at: float  #: seconds of the monotonic clock
    state: State
    has_settled: bool  #: whether it had said the same before, long enough ago

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.at < _RECENT_SECONDS


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
        self._tables = SotTables(server, database)
        self._export = Export(export)
        self._exported = DirectorySource(export)
        self._settle_seconds = settle_seconds
        self._may_be_empty = may_be_empty
        self._sleep = sleep
        self._seen: dict[Snapshot, _Seen] = {}

    @property
    def uri(self) -> str:
        """Server and database, for people."""
        return self._tables.uri()

    def is_ready(self, snapshot: Snapshot) -> bool:
        """Tell whether every table has rows and they have settled: luigi asks several times in a row.

        Waits ``settle_seconds`` where it has not seen these rows before.
        """
        seen = self._seen.get(snapshot)
        if seen is None or not seen.is_recent:
            seen = self._ask(snapshot)
            if self._has_rows(seen.state) and not seen.has_settled:
                logger.bind(seconds=self._settle_seconds).info("Waiting to see whether upstream still writes")
                self._sleep(self._settle_seconds)
                seen = self._ask(snapshot)
        return self._has_rows(seen.state) and seen.has_settled

    def manifest_uri(self, snapshot: Snapshot) -> str | None:
        """Ask for counts and digests; None while a table has no rows."""
        state = self._ask(snapshot).state
        return self._manifest_uri(snapshot, state) if self._has_rows(state) else None

    def is_current(self, snapshot: Snapshot, uri: str, sha256: str) -> bool:  # noqa: ARG002  # the rows decide
        """Compare digests of rows: the manifest is ours and says nothing that they do not."""
        seen = self._seen.get(snapshot)
        if seen and seen.is_recent and self._manifest_uri(snapshot, seen.state) == uri:
            return True
        return self.manifest_uri(snapshot) in {None, uri}

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """Export what is not exported yet, write the manifest, return it.

        Raises SourceUnavailableError when rows have not settled, and, after throwing the files away, when they
        changed meanwhile.
        """
        seen = self._ask(snapshot)
        state = seen.state
        if not self._has_rows(state):
            return None
        if not seen.has_settled:
            seconds = f"{self._settle_seconds:g} s"
            raise SourceUnavailableError(f"{self.uri}: {snapshot} changed within {seconds}", hint=_NOT_SETTLED)
        for table in TABLES:
            if not self._export.has(snapshot, table, state[table.name]):
                self._export_table(snapshot, table, state[table.name])
        self._require(snapshot, state, self._ask(snapshot).state)
        self._export.write_manifest(snapshot, state)
        text = self._exported.read_manifest(snapshot)
        return ManifestText(text.data, self._manifest_uri(snapshot, state)) if text else None

    def confirm(self, snapshot: Snapshot, table: Table, content_digest: str | None) -> None:
        """Ask for the table's digest once more. Raises SourceChangedError, after throwing the files away."""
        now = self._tables.table_state(snapshot, table)
        if now.content_digest != content_digest:
            self.discard(snapshot)
            raise SourceChangedError(
                f"{self.uri}: {SOT_TABLES[table.name]} changed since its manifest was made: its rows have digest "
                f"{now.content_digest}, the manifest says {content_digest}",
                hint=_STILL_WRITING,
            )

    def find(self, key: str) -> RemoteFile | None:
        """Look into the export."""
        return self._exported.find(key)

    def read(self, file: RemoteFile) -> Iterator[bytes]:
        """Read from the export."""
        return self._exported.read(file)

    def manifests(self, network: str) -> Iterator[Snapshot]:  # noqa: ARG002  # the protocol's signature
        """Name no snapshot: nothing is superseded here, every export is of what the tables hold."""
        return newest_first(())

    def discard(self, snapshot: Snapshot) -> None:
        """Remove the export of a snapshot."""
        self._export.discard(snapshot)

    def _ask(self, snapshot: Snapshot) -> _Seen:
        state = self._tables.state(snapshot)
        has_settled = self._has_rows(state) and (
            self._export.seconds_unchanged(snapshot, state) >= self._settle_seconds
        )
        self._seen[snapshot] = _Seen(time.monotonic(), state, has_settled)
        return self._seen[snapshot]

    def _has_rows(self, state: State) -> bool:
        return all(table.rows or name in self._may_be_empty for name, table in state.items())

    def _export_table(self, snapshot: Snapshot, table: Table, expected: TableState) -> None:
        """Stream a table into its file and prove that the file has the rows of the state."""
        try:
            rows = self._export.write(snapshot, table, self._tables.read(snapshot, table))
        except FileError as error:  # ClickHouse appends an error to what it has sent
            raise SourceUnavailableError(
                f"{self.uri}: {SOT_TABLES[table.name]} did not arrive whole: {error}", hint="run again"
            ) from error
        self._require(snapshot, {table.name: expected}, {table.name: self._tables.table_state(snapshot, table)})
        if rows != expected.rows:
            raise SourceUnavailableError(
                f"{self.uri}: {SOT_TABLES[table.name]} has {expected.rows} rows, {rows} arrived", hint="run again"
            )
        self._export.prove(snapshot, table, expected)
        logger.bind(table=table.name, rows=rows).info("Exported table")

    def _require(self, snapshot: Snapshot, before: State, after: State) -> None:
        """Raise SourceUnavailableError, after throwing the files away, unless nothing changed."""
        if before != after:
            self.discard(snapshot)
            changed = "; ".join(
                f"{SOT_TABLES[name]} changed while it was read: {table.rows} rows with digest {table.content_digest} "
                f"before, {after[name].rows} with {after[name].content_digest} after"
                for name, table in before.items()
                if after[name] != table
            )
            raise SourceUnavailableError(f"{self.uri}: {changed}", hint=_STILL_WRITING)

    def _manifest_uri(self, snapshot: Snapshot, state: State) -> str:
        return f"{self._tables.uri(snapshot.network)}/{snapshot}#{version_of(state)}"
