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
        """Return for how long the tables have been seen to hold this, and remember it if never."""
        path, version = self._folder(snapshot) / "seen.json", version_of(state)
        seen = atomic.read_proof(path)
        if seen is None or seen["version"] != version:
            atomic.write_proof(path, {"version": version, "since": time.time()})
            return 0
        return float(time.time() - seen["since"])

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

    def has(self, snapshot: Snapshot, table: Table, state: TableState) -> bool:
        """Tell whether the table's file is there with the rows of this state."""
        proof, path = atomic.read_proof(self._proof(snapshot, table)), self._file(snapshot, table)
        if proof is None or not path.exists() or path.stat().st_size != proof["bytes"]:
            return False
        return _state_in(proof) == state

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

    def _file(self, snapshot: Snapshot, table: Table) -> Path:
        return self._folder(snapshot) / f"{table.stem}.parquet"

    def _proof(self, snapshot: Snapshot, table: Table) -> Path:
        return self._folder(snapshot) / f"{table.stem}.json"


def _state_in(proof: Mapping[str, Any]) -> TableState:
    return TableState(proof["rows"], proof["content_digest"])
