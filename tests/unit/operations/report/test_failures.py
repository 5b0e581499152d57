"""Failures for the same cause are one, with a count."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pipeline.operations.report.failures import grouped
from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import StepRecord
from tests.support.reports import LAST, NOW, WINDOW, record


def failed(network: str, back: int, error: str, step: str = "DownloadFile", table: str = "raw_alerts") -> StepRecord:
    """Return a failure about a day, an hour before those of the day after it."""
    snapshot = Snapshot(network, LAST - timedelta(days=back), WINDOW)
    return replace(record(snapshot, step, "failed", NOW - timedelta(hours=back), error), table=table)


def test_what_differs_in_date_network_table_or_number_is_the_same_cause() -> None:
    """The newest is shown, and all snapshots are counted."""
    text = "snapshots/{}/{}/195/{}.parquet: the manifest says {} bytes, found 17"
    records = [
        failed("torus", 9, text.format("torus", "2025-08-01", "raw_alerts", 5_001)),
        failed("bitcoin", 8, text.format("bitcoin", "2025-08-02", "raw_clusters", "1,234"), table="raw_clusters"),
        failed("torus", 7, text.format("torus", "2025-08-01", "raw_alerts", 5_001)),
    ]
    (found,) = grouped(records, ())
    assert (len(found.records), found.newest, found.open_snapshots) == (3, records[2], frozenset())
    assert [snapshot.network for snapshot in found.snapshots] == ["torus", "bitcoin", "torus"]


def test_other_steps_and_other_texts_are_other_causes() -> None:
    """However alike they are."""
    texts = ["the server does not answer", "the server answers no more"]
    records = [failed("torus", 1, text, step) for text in texts for step in ("DownloadFile", "LoadTable")]
    assert [len(found.records) for found in grouped(records, ())] == [1, 1, 1, 1]


def test_what_is_open_comes_first() -> None:
    """Then the newest; a step that was done is no failure, and what an audit holds is one."""
    old, new = failed("torus", 5, "gone"), failed("torus", 1, "refused")
    done = replace(new, state="done")
    assert [found.newest for found in grouped([old, new, done], ())] == [new, old]
    held = replace(old, state="held")
    assert [found.newest for found in grouped([held], ())] == [held]
    first, second = grouped([old, new, done], {old.snapshot})
    assert (first.newest, first.open_snapshots) == (old, frozenset({old.snapshot}))
    assert second.open_snapshots == frozenset()
