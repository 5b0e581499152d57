"""A day that is whole but absurd: the packaged audits hold it, and no reader ever sees a row of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from pipeline.demo.bucket import Rows
from pipeline.exit_codes import TASK_FAILED
from tests.support.deployment import ALONE, Deployment, ServerReader, in_directory
from tests.support.snapshots import Bucket

pytestmark = pytest.mark.usefixtures("audited")

DAYS = [date(2025, 8, day) for day in range(1, 5)]
USUAL, ABSURD = Rows(features=200, alerts=40, clusters=10), Rows(features=5, alerts=1, clusters=0)
SEEN = "SELECT max(processing_date), count() FROM {db}.raw_features"


@contextmanager
def polling(deployment: Deployment) -> Iterator[list[tuple[object, ...]]]:
    """Read all the time while the block runs, and once after it."""
    seen: list[tuple[object, ...]] = []
    stopped = threading.Event()

    def read() -> None:
        while not stopped.wait(0.02):
            seen.extend(deployment.query("torus", SEEN))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        thread.join()
    seen.extend(deployment.query("torus", SEEN))


def test_an_absurd_day_is_held_while_readers_read(server_reader: ServerReader, tmp_path: Path) -> None:
    """Features fell from 200 to 5, alerts from 40 to 1, clusters from 10 to none: one line an audit says so."""
    bucket = Bucket(tmp_path / "bucket")
    for day in DAYS:
        files = bucket.snapshot(day=day, rows=ABSURD if day == DAYS[-1] else USUAL)
    deployment = Deployment(in_directory(bucket.root), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})
    usual = ("sot-ingest", "backfill", "--from", str(DAYS[0]), "--to", str(DAYS[2]), *ALONE)
    assert deployment.command(*usual).exit_code == 0
    with polling(deployment) as seen:
        result = deployment.run(files.snapshot)
    assert result.exit_code == TASK_FAILED
    median = "is the median of the published days (days: 3, 2025-08-01 to 2025-08-03)"
    said = {
        "addresses_gone": ["raw_features: 195 of 200 addresses of 2025-08-03 are gone, expected at most 86"],
        "empty_table": ["raw_clusters has no rows, expected some: 10 is the median of the published days (days: 3)"],
        "row_counts": [
            f"raw_alerts has a row count of 1, expected 14 to 120: 40 {median}",
            f"raw_features has a row count of 5, expected 67 to 600: 200 {median}",
        ],
    }
    found = [event["message"].removeprefix("Step failed: held by ").partition(": ") for event in result.errors()]
    assert {audit: sorted(words.split("; ")[:-1]) for audit, _, words in found} == said
    assert set(seen) == {(DAYS[2], 600)}
