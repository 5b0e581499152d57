"""What steps tell while they work, and what a try leaves to the next one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.errors import FileError
from pipeline.graph import steps
from pipeline.graph.context import Context
from pipeline.tables import TABLES
from pipeline.warehouse import MissingTableError
from pipeline.warehouse.load import ProvenFile
from tests.support.deployment import EmbeddedReader, a_day
from tests.support.inprocess import in_process


def test_a_load_tells_sending_from_counting() -> None:
    """Rows stand for the bytes that are sent; when all are, the server stores and counts."""
    told: list[tuple[Any, ...]] = []
    file = cast("ProvenFile", SimpleNamespace(bytes=1_000, footer=SimpleNamespace(rows=50_000)))
    add = steps._rows_told(file, lambda *progress: told.append(progress))
    add(250)
    add(760)  # the request is longer than the file
    assert told == [(250, 1_000, "12,500 of 50,000 rows"), (1_000, 1_000, "counting 50,000 rows")]


def test_tables_are_looked_at_once_a_run_and_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may drop them in the middle of a run: the next try of the load makes them again."""
    looks: list[object] = []
    source = SimpleNamespace(confirm=lambda *_: None)
    shared = SimpleNamespace(prepared=set(), warehouse=lambda _: "there", workspace=lambda _: None, source=source)
    context = cast("Context", shared)
    monkeypatch.setattr(steps, "ensure_schema", looks.append)
    monkeypatch.setattr(steps, "proven_file", lambda *_: SimpleNamespace(content_digest=None, bytes=0))

    def dropped(*_: object) -> None:
        raise MissingTableError("no such table", hint="")

    monkeypatch.setattr(steps, "load_file", dropped)
    for _ in range(2):
        steps.prepare_tables(context, "torus")
    assert looks == ["there"]
    for count in (1, 2):
        with pytest.raises(MissingTableError):
            steps.load_table(context, a_day(), TABLES[0], lambda *_: None)
        assert len(looks) == count


def test_a_file_is_read_again_in_a_later_run(samples: Path, tmp_path: Path) -> None:
    """A run knows the bytes that it wrote and hashes them when it sends them; what lay on disk may have changed."""
    _, context = in_process(samples, EmbeddedReader(tmp_path / "warehouse"), tmp_path)
    snapshot, table, read = a_day(), TABLES[0], list[int]()
    steps.download_manifest(context, snapshot)
    steps.download_file(context, snapshot, table, lambda *_: None)
    path = context.workspace(snapshot).file_path(table)

    def validate(shared: Context) -> None:
        read.clear()
        steps.validate_checksum(shared, snapshot, table, lambda done, _: read.append(done))

    validate(context)
    assert read == []
    later = replace(context, run_id="later")
    validate(later)
    assert read[-1] == path.stat().st_size
    times = path.stat()
    path.write_bytes(b"x" * times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(FileError, match="expected"):
        validate(later)
    assert not path.exists()
