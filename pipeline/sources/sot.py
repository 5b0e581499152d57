"""Snapshots in the SOT ClickHouse itself: exported to Parquet files and a manifest, then read like any other.

No manifest is published there, so it is made here, last: row counts, the SHA-256 of each file, and a digest over
the cells that the SOT ClickHouse computes over the same rows (:mod:`pipeline.files.digest`). The same digest over the
loaded rows must be equal: a proof from one end to the other that needs no trust in the files between.

ExportTable writes the file of a table, WriteManifest the manifest when all files are there; DownloadManifest and
DownloadFile then read them as they read those of a directory, by a link where a copy would fill the disk twice. The
labels know no date: when they alone change, a snapshot that is published stays as it is, as with S3, where an export
overwrites them too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loguru import logger

from pipeline.clickhouse import ClickHouse
from pipeline.errors import FileError, SourceChangedError, SourceUnavailableError
from pipeline.snapshot import Snapshot
from pipeline.sources import RUN_LATER, ManifestText, RemoteFile, Report, newest_first
from pipeline.sources.directory import DirectorySource
from pipeline.sources.sot_export import Export, dated, tables_in, version_of
from pipeline.sources.sot_tables import SOT_TABLES, SnapshotState, SotTables, TableState
from pipeline.tables import TABLES, Table

_RECENT_SECONDS = 10.0

_STILL_WRITING = "upstream is still writing: the file was thrown away; run again"
_NOT_SETTLED = "upstream is still writing: run again later"


@dataclass(frozen=True)
class _Seen:
    """What the SOT said about a snapshot when a run last looked."""

    at: float  #: seconds of the monotonic clock
    state: SnapshotState
    has_settled: bool  #: whether it had said the same before, long enough ago

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.at < _RECENT_SECONDS


class SotSource:
    """The SOT ClickHouse as a source.

    ``tables`` are those that a snapshot must have; no other is read, but to see whether a published one has changed.
    ``settle_seconds`` is how long the rows of a snapshot must have stayed the same before it counts as written.
    ``may_be_empty`` names the tables that a snapshot may have no rows in.
    """

    def __init__(
        self,
        server: ClickHouse,
        database: str,
        export: Path,
        *,
        tables: tuple[Table, ...] = TABLES,
        settle_seconds: float,
        may_be_empty: tuple[str, ...] = (),
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._sot = SotTables(server, database)
        self.tables: Sequence[Table] = tables
        self._export = Export(export, tables)
        self._exported = DirectorySource(export)
        self._settle_seconds = settle_seconds
        self._may_be_empty = may_be_empty
        self._sleep = sleep
        self._seen: dict[Snapshot, _Seen] = {}

    @property
    def uri(self) -> str:
        """Server and database, for people."""
        return self._sot.uri()

    def is_ready(self, snapshot: Snapshot) -> bool:
        """Tell whether every table has rows, and they are known to have been the same for ``settle_seconds``."""
        return self._has_settled(snapshot, self._sot.state(snapshot, self.tables))

    def wait_until_ready(self, snapshot: Snapshot) -> bool:
        """Tell the same, after ``settle_seconds`` and a second look where these rows were not seen before.

        A snapshot that was ready stays so for this run, in all processes that it forks: a later change is for the steps
        to find. Of one that was not, luigi asks several times in a row.
        """
        seen = self._seen.get(snapshot)
        if seen is None or not (seen.has_settled or seen.is_recent):
            seen = self._look(snapshot)
            if not self._empty(seen.state) and not seen.has_settled:
                logger.bind(seconds=self._settle_seconds).info("Waiting to see whether upstream still writes")
                self._sleep(self._settle_seconds)
                seen = self._look(snapshot)
        return seen.has_settled

    def absence(self, snapshot: Snapshot) -> tuple[str, str]:
        """Name the tables without rows, or say that rows still change."""
        seen = self._seen.get(snapshot)
        empty = self._empty(seen.state if seen else self._sot.state(snapshot, self.tables))
        if empty:
            hint = f"upstream has not finished it: {RUN_LATER}; SOT_MAY_BE_EMPTY names tables that may have no rows"
            return f"rows of {snapshot} in {', '.join(SOT_TABLES[name] for name in empty)}", hint
        return f"{snapshot} that stays the same for {self._settle_seconds:g} s", _NOT_SETTLED

    def manifest_uri(self, snapshot: Snapshot) -> str | None:
        """Ask for counts and digests; None without an export, or while a table has no rows."""
        if self._export.state(snapshot) is None:
            return None
        state = self._sot.state(snapshot, self.tables)
        return None if self._empty(state) else self._manifest_uri(snapshot, state)

    def is_current(self, snapshot: Snapshot, known: Mapping[str, str]) -> bool:
        """Compare digests of the date's rows: the manifest is ours and says nothing that they do not."""
        seen, versions = self._seen.get(snapshot), {uri.rpartition("#")[2] for uri in known}
        if seen and seen.is_recent and dated(version_of(seen.state)) in map(dated, versions):
            return True
        for tables in {tables_in(version) for version in versions}:
            state = self._sot.state(snapshot, [table for table in tables if not table.shared])
            if self._empty(state) or dated(version_of(state)) in {dated(version) for version in versions}:
                return True
        return False

    def is_same(self, uri: str, other: str) -> bool:
        """Compare digests of the date's rows; the labels know no date."""
        (place, _, version), (other_place, _, other_version) = uri.rpartition("#"), other.rpartition("#")
        return (place, dated(version)) == (other_place, dated(other_version))

    def is_exported(self, snapshot: Snapshot, table: Table) -> bool:
        """Tell whether a table's file is here with the rows that this run has seen, or that the SOT has now."""
        state, seen = self._export.table_state(snapshot, table), self._seen.get(snapshot)
        if state is None:
            return False
        if seen and seen.has_settled and seen.state[table.name] == state:
            return True
        return self._sot.table_state(snapshot, table) == state

    def is_manifest_written(self, snapshot: Snapshot) -> bool:
        """Tell whether there is a manifest of the tables' files, and all of them are exported."""
        return self._export.state(snapshot) is not None and all(
            self.is_exported(snapshot, table) for table in self.tables
        )

    def export_table(self, snapshot: Snapshot, table: Table, report: Report) -> tuple[int, int]:
        """Stream a table's rows into its file; return how many rows and bytes. ``report`` gets bytes as they arrive.

        Raises SourceUnavailableError when the rows have not settled, or do not arrive whole.
        """
        seen = self._seen.get(snapshot)
        if not (seen and seen.has_settled and seen.state[table.name] == self._sot.table_state(snapshot, table)):
            seen = self._look(snapshot)
            self._require_settled(snapshot, seen)
        expected = seen.state[table.name]
        note = f"{table.stem}, {expected.rows:,} rows"
        try:
            pieces = _reporting(self._sot.read(snapshot, table), report, note)
            size = self._export.write(snapshot, table, expected, pieces)
        except FileError as error:  # ClickHouse appends an error to what it has sent
            raise SourceUnavailableError(
                f"{self.uri}: {SOT_TABLES[table.name]} did not arrive whole: {error}", hint="run again"
            ) from error
        report(size, size, note)
        return expected.rows, size

    def write_manifest(self, snapshot: Snapshot) -> int:
        """Write the manifest of the exported tables; return how many rows they have.

        Raises SourceUnavailableError when a table is not exported with the rows that the SOT has now, after throwing
        its file away, or when the rows have not settled.
        """
        seen = self._look(snapshot)
        self._require_exported(snapshot, seen.state)
        self._require_settled(snapshot, seen)
        self._export.write_manifest(snapshot, seen.state)
        return sum(table.rows for table in seen.state.values())

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """Return the manifest that :meth:`write_manifest` wrote."""
        state, text = self._export.state(snapshot), self._exported.read_manifest(snapshot)
        return ManifestText(text.data, self._manifest_uri(snapshot, state)) if text and state else None

    def peek(self, snapshot: Snapshot) -> ManifestText | None:
        """Ask for counts and digests, and do not remember when they were first seen."""
        state = self._sot.state(snapshot, self.tables)
        return None if self._empty(state) else ManifestText(b"", self._manifest_uri(snapshot, state))

    def confirm(self, snapshot: Snapshot, table: Table, content_digest: str | None) -> None:
        """Ask for the table's digest once more. Raises SourceChangedError, after throwing its file away."""
        now = self._sot.table_state(snapshot, table)
        if now.content_digest != content_digest:
            self.discard(snapshot, table)
            raise SourceChangedError(
                f"{self.uri}: {SOT_TABLES[table.name]} changed since its manifest was made: its rows have digest "
                f"{now.content_digest}, the manifest says {content_digest}",
                hint=_STILL_WRITING,
            )

    def find(self, key: str) -> RemoteFile | None:
        """Look into the export."""
        found = self._exported.find(key)
        return replace(found, local=self._export.path(key)) if found else None

    def read(self, file: RemoteFile) -> Iterator[bytes]:
        """Read from the export."""
        return self._exported.read(file)

    def manifests(self, network: str) -> Iterator[Snapshot]:  # noqa: ARG002  # the protocol's signature
        """Name no snapshot: nothing is superseded here, every export is of what the tables hold."""
        return newest_first(())

    def discard(self, snapshot: Snapshot, table: Table | None = None) -> None:
        """Remove the export of a snapshot, or of one table, and then the manifest too: the next is made again."""
        if table is None:
            self._export.discard(snapshot)
        else:
            self._export.discard_file(snapshot, table)

    def _look(self, snapshot: Snapshot) -> _Seen:
        """Ask for the state, and remember since when it has been that."""
        state = self._sot.state(snapshot, self.tables)
        if not self._empty(state):
            self._export.remember(snapshot, state)
        self._seen[snapshot] = _Seen(time.monotonic(), state, self._has_settled(snapshot, state))
        return self._seen[snapshot]

    def _has_settled(self, snapshot: Snapshot, state: SnapshotState) -> bool:
        """Tell whether no table lacks rows, and all are known to have held this for long enough."""
        return not self._empty(state) and self._export.seconds_unchanged(snapshot, state) >= self._settle_seconds

    def _empty(self, state: SnapshotState) -> list[str]:
        """Return the tables that have no rows and should."""
        return [name for name, table in state.items() if not table.rows and name not in self._may_be_empty]

    def _require_settled(self, snapshot: Snapshot, seen: _Seen) -> None:
        """Raise SourceUnavailableError while upstream writes."""
        if not seen.has_settled:
            what, hint = self.absence(snapshot)
            raise SourceUnavailableError(f"{self.uri}: found no {what}", hint=hint)

    def _require_exported(self, snapshot: Snapshot, now: SnapshotState) -> None:
        """Raise SourceUnavailableError, after throwing their files away, unless all files have the rows of now."""
        before = {table: self._export.table_state(snapshot, table) for table in self.tables}
        changed = [table for table in self.tables if before[table] != now[table.name]]
        for table in changed:
            self.discard(snapshot, table)
        if changed:
            said = "; ".join(
                f"{SOT_TABLES[table.name]} changed while it was read: {_told(before[table])} before, "
                f"{_told(now[table.name])} after"
                for table in changed
            )
            raise SourceUnavailableError(f"{self.uri}: {said}", hint=_STILL_WRITING)

    def _manifest_uri(self, snapshot: Snapshot, state: SnapshotState) -> str:
        return f"{self._sot.uri(snapshot.network)}/{snapshot}#{version_of(state)}"


def _told(state: TableState | None) -> str:
    return f"{state.rows} rows with digest {state.content_digest}" if state else "no file"


def _reporting(pieces: Iterator[bytes], report: Report, note: str) -> Iterator[bytes]:
    """Yield pieces and report the bytes that came so far; how many will come is not known."""
    done = 0
    for piece in pieces:
        done += len(piece)
        report(done, None, note)
        yield piece
