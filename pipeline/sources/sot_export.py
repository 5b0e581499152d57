"""What was exported from the SOT ClickHouse, on disk: Parquet files, the proofs about them, and META.json.

In the bucket's layout, so that it is read like any other directory::

    snapshots/{network}/{processing_date}/{window_days}/
        seen.json                       what the tables held, and when they were first seen to hold it
        alerts.parquet  …               one file a table
        alerts.json  …                  the proof that its rows are those of a state
        META.json                       written last
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.files import atomic
from pipeline.files.parquet import read_footer
from pipeline.snapshot import MANIFEST_NAME, Snapshot
from pipeline.sources.sot_tables import SnapshotState, TableState
from pipeline.tables import TABLES, Table


def version_of(state: SnapshotState) -> str:
    """Return a digest of what the tables hold, those of the date before the shared ones: ``{hex}.{hex}``.

    When not all tables are ingested it says which are: ``{hex}.{hex}.{stem}+{stem}``.
    """
    shared = {table.name for table in TABLES if table.shared}
    digests = [
        _digest({name: state[name] for name in names}) for names in (state.keys() - shared, state.keys() & shared)
    ]
    stems = [table.stem for table in TABLES if table.name in state]
    return ".".join([*digests, *(["+".join(stems)] if len(stems) < len(TABLES) else [])])


def dated(version: str) -> str:
    """Return the part of a version that is about the tables of the date."""
    return version.partition(".")[0]


def tables_in(version: str) -> tuple[Table, ...]:
    """Return the tables that a version is about."""
    _, _, stems = version.partition(".")[2].partition(".")
    return tuple(table for table in TABLES if not stems or table.stem in stems.split("+"))


def _digest(state: SnapshotState) -> str:
    text = json.dumps({name: asdict(table) for name, table in sorted(state.items())})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Export:
    """The exports of all snapshots' ``tables`` under ``root``. Raises WorkDirectoryError when the disk fails."""

    def __init__(self, root: Path, tables: Sequence[Table]) -> None:
        self.root = root
        self._tables = tables

    def seconds_unchanged(self, snapshot: Snapshot, state: SnapshotState) -> float:
        """Return for how long the tables are known to hold this; 0 when they were not seen to."""
        seen = atomic.read_proof(self._seen(snapshot))
        return float(time.time() - seen["since"]) if seen and seen["version"] == version_of(state) else 0.0

    def remember(self, snapshot: Snapshot, state: SnapshotState) -> None:
        """Note since when the tables are known to hold this, unless they were seen to before."""
        seen, version = atomic.read_proof(self._seen(snapshot)), version_of(state)
        if seen is None or seen["version"] != version:
            atomic.write_proof(self._seen(snapshot), {"version": version, "since": time.time()})

    def write(self, snapshot: Snapshot, table: Table, state: TableState, pieces: Iterator[bytes]) -> int:
        """Store a table's file and the proof that it has the rows of this state; return its size in bytes.

        The manifest, which is about another file, goes first. Raises FileError when the bytes are not whole Parquet.
        """
        self.discard_file(snapshot, table)
        path, sha256 = self._file(snapshot, table), hashlib.sha256()
        with atomic.replacing(path) as file:
            for piece in pieces:
                file.write(piece)
                sha256.update(piece)
        read_footer(path, path.name)
        size = path.stat().st_size
        atomic.write_proof(self._proof(snapshot, table), {**asdict(state), "sha256": sha256.hexdigest(), "bytes": size})
        return size

    def table_state(self, snapshot: Snapshot, table: Table) -> TableState | None:
        """Return what the table held whose rows are in its file; None when the file is not there, or not whole."""
        proof = atomic.read_proof(self._proof(snapshot, table))
        try:
            size = self._file(snapshot, table).stat().st_size
        except FileNotFoundError:
            return None
        return _state_in(proof) if proof and proof["bytes"] == size else None

    def state(self, snapshot: Snapshot) -> SnapshotState | None:
        """Return what the tables held that the manifest is about; None when there is none."""
        proofs = {table.name: atomic.read_proof(self._proof(snapshot, table)) for table in self._tables}
        if not (self._folder(snapshot) / MANIFEST_NAME).exists():
            return None
        return {name: _state_in(proof) for name, proof in proofs.items() if proof}

    def write_manifest(self, snapshot: Snapshot, state: SnapshotState) -> None:
        """Write META.json in upstream's current dialect, with the digests of the rows beside those of the files."""
        proofs = {table: atomic.read_proof(self._proof(snapshot, table)) or {} for table in self._tables}
        document = {
            "schema_version": "1.0.0",
            "batch_id": f"{snapshot.network}-{snapshot.processing_date}-{snapshot.window_days}d",
            **snapshot.as_dict(),
            "generated_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "counts": {table.stem: state[table.name].rows for table in self._tables},
            "sha256": {f"{table.stem}.parquet": proof["sha256"] for table, proof in proofs.items()},
            "content_digests": {table.stem: state[table.name].content_digest for table in self._tables},
        }
        with atomic.replacing(self._folder(snapshot) / MANIFEST_NAME) as file:
            file.write(json.dumps(document, indent=2).encode())

    def discard(self, snapshot: Snapshot) -> None:
        """Remove the export of a snapshot."""
        atomic.remove_directory(self._folder(snapshot), below=self.root)

    def discard_file(self, snapshot: Snapshot, table: Table) -> None:
        """Remove one table's file, and the manifest, which lists it."""
        manifest = self._folder(snapshot) / MANIFEST_NAME
        atomic.remove(manifest, self._proof(snapshot, table), self._file(snapshot, table))

    def path(self, key: str) -> Path:
        """Return where the file of a key is."""
        return self.root / key

    def _folder(self, snapshot: Snapshot) -> Path:
        return self.root / snapshot.folder

    def _seen(self, snapshot: Snapshot) -> Path:
        return self._folder(snapshot) / "seen.json"

    def _file(self, snapshot: Snapshot, table: Table) -> Path:
        return self._folder(snapshot) / f"{table.stem}.parquet"

    def _proof(self, snapshot: Snapshot, table: Table) -> Path:
        return self._folder(snapshot) / f"{table.stem}.json"


def _state_in(proof: Mapping[str, Any]) -> TableState:
    return TableState(proof["rows"], proof["content_digest"])
