"""Snapshots in the SOT ClickHouse itself: exported to Parquet files and a manifest, then read like any other.

No manifest is published there, so it is made here, last: row counts, the SHA-256 of each file, and a digest over
the cells that the SOT ClickHouse computes over the same rows (:mod:`pipeline.files.digest`). The same digest over the
loaded rows must be equal: a proof from one end to the other that needs no trust in the files between.

The files are written by DownloadManifest, one table after another, for a manifest with their SHA-256 cannot be there
before them; DownloadFile then takes them as it takes those of a directory, by a link where a copy would fill the disk
twice. The labels know no date: when they alone change, a snapshot that is published stays as it is, as with S3, where
an export overwrites them too.
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
    """What the SOT said about a snapshot."""

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
        """Tell whether every table has rows and they have settled: luigi asks several times in a row.

        Waits ``settle_seconds`` where it has not seen these rows before.
        """
        seen = self._seen.get(snapshot)
        if seen is None or not seen.is_recent:
            seen = self._look(snapshot)
            if not self._empty(seen.state) and not seen.has_settled:
                logger.bind(seconds=self._settle_seconds).info("Waiting to see whether upstream still writes")
                self._sleep(self._settle_seconds)
                seen = self._look(snapshot)
        return seen.has_settled

    def absence(self, snapshot: Snapshot) -> tuple[str, str]:
        """Name the tables without rows, or say that rows still change."""
        empty = self._empty(self._seen[snapshot].state)
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

    def prepare(self, snapshot: Snapshot, report: Report) -> None:
        """Export what is not exported yet, then write the manifest.

        Raises SourceUnavailableError when rows have not settled, and, after throwing their files away, when they
        changed meanwhile.
        """
        seen = self._look(snapshot)
        if not seen.has_settled:
            what, hint = self.absence(snapshot)
            raise SourceUnavailableError(f"{self.uri}: found no {what}", hint=hint)
        done = 0
        for table in self.tables:
            expected = seen.state[table.name]
            if not self._export.has(snapshot, table, expected):
                done += self._export_table(snapshot, table, expected, _counted(done, table, expected, report))
        self._require_unchanged(snapshot, seen.state)
        self._export.write_manifest(snapshot, seen.state)
        report(done, done, f"{sum(table.rows for table in seen.state.values()):,} rows")

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """Return the manifest that :meth:`prepare` wrote."""
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
        has_settled = not self._empty(state) and (
            self._export.seconds_unchanged(snapshot, state) >= self._settle_seconds
        )
        self._seen[snapshot] = _Seen(time.monotonic(), state, has_settled)
        return self._seen[snapshot]

    def _empty(self, state: SnapshotState) -> list[str]:
        """Return the tables that have no rows and should."""
        return [name for name, table in state.items() if not table.rows and name not in self._may_be_empty]

    def _export_table(
        self, snapshot: Snapshot, table: Table, expected: TableState, count: Callable[[int], None]
    ) -> int:
        """Stream a table into its file; return its size in bytes."""
        try:
            size = self._export.write(snapshot, table, expected, _counting(self._sot.read(snapshot, table), count))
        except FileError as error:  # ClickHouse appends an error to what it has sent
            raise SourceUnavailableError(
                f"{self.uri}: {SOT_TABLES[table.name]} did not arrive whole: {error}", hint="run again"
            ) from error
        logger.bind(table=table.name, rows=expected.rows, bytes=size).info("Exported table")
        return size

    def _require_unchanged(self, snapshot: Snapshot, before: SnapshotState) -> None:
        """Raise SourceUnavailableError, after throwing the files of what changed away, unless nothing did."""
        after = self._sot.state(snapshot, self.tables)
        changed = [table for table in self.tables if after[table.name] != before[table.name]]
        for table in changed:
            self.discard(snapshot, table)
        if changed:
            said = "; ".join(
                f"{SOT_TABLES[table.name]} changed while it was read: {_told(before[table.name])} before, "
                f"{_told(after[table.name])} after"
                for table in changed
            )
            raise SourceUnavailableError(f"{self.uri}: {said}", hint=_STILL_WRITING)

    def _manifest_uri(self, snapshot: Snapshot, state: SnapshotState) -> str:
        return f"{self._sot.uri(snapshot.network)}/{snapshot}#{version_of(state)}"


def _told(state: TableState) -> str:
    return f"{state.rows} rows with digest {state.content_digest}"


def _counted(done: int, table: Table, expected: TableState, report: Report) -> Callable[[int], None]:
    """Return what takes bytes as they arrive and reports them with those before; how many will come is not known."""
    note = f"{table.stem}, {expected.rows:,} rows"

    def add(count: int) -> None:
        nonlocal done
        done += count
        report(done, None, note)

    return add


def _counting(pieces: Iterator[bytes], count: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        count(len(piece))
        yield piece
