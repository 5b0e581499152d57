"""What steps tell while they work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from pipeline.graph import steps
from pipeline.warehouse.load import ProvenFile


def test_a_load_tells_sending_from_counting() -> None:
    """Rows stand for the bytes that are sent; when all are, the server stores and counts."""
    told: list[tuple[Any, ...]] = []
    file = cast("ProvenFile", SimpleNamespace(bytes=1_000, footer=SimpleNamespace(rows=50_000)))
    add = steps._rows_told(file, lambda *progress: told.append(progress))
    add(250)
    add(760)  # the request is longer than the file
    assert told == [(250, 1_000, "12,500 of 50,000 rows"), (1_000, 1_000, "counting 50,000 rows")]
