"""What the node exporter finds after runs: a network's files say what is known of it, and nothing of another's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import WorkDirectoryError
from pipeline.graph.step_records import Standing
from pipeline.runs import metrics
from pipeline.runs.outcome import Outcome
from pipeline.settings import Settings, get_settings
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES
from pipeline.warehouse.ledger import PIPELINE_VERSION
from pipeline.warehouse.publications import Publication
from pipeline.warehouse.step_log import StepRecord

MOMENT = datetime(2025, 8, 2, 1, 0, tzinfo=UTC)
TORUS, BITCOIN = (Snapshot(network, date(2025, 8, 1), 195) for network in ("torus", "bitcoin"))
CLEANED_UP = StepRecord(TORUS, "CleanUp", "", "done", MOMENT, 0.5)
FAILED = replace(CLEANED_UP, step="LoadTable", table="raw_alerts", state="failed")
DONE = replace(FAILED, state="done")
MISSING = replace(CLEANED_UP, step="FindSnapshot", state="missing")


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    """Settings with a METRICS_PATH in a directory that is not there yet."""
    monkeypatch.setenv("METRICS_PATH", str(tmp_path / "metrics" / "sot.prom"))
    monkeypatch.setenv("SOT_PATH", str(tmp_path))
    monkeypatch.setenv("CLICKHOUSE_HOST", "nowhere")
    monkeypatch.delenv("SOT_S3_BUCKET", raising=False)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def outcome(exit_code: int, *records: StepRecord, asked: tuple[Snapshot, ...] = (TORUS, BITCOIN)) -> Outcome:
    """Return how a run ended whose warehouses did not answer."""
    return Outcome(exit_code, "run", MOMENT, 12.0, asked, records)


def ended(
    exit_code: int, *records: StepRecord, torus: Standing = "requested", bitcoin: Standing = "requested"
) -> Outcome:
    """Return how a run ended that knows how it stands with its two snapshots."""
    return replace(outcome(exit_code, *records), standings={TORUS: torus, BITCOIN: bitcoin})


def publication(snapshot: Snapshot) -> Publication:
    """Return what readers see of a snapshot: 7 rows a table."""
    counts = {table.name: 7 for table in TABLES}
    loads = dict.fromkeys(counts, "load")
    day, window = snapshot.processing_date, snapshot.window_days
    return Publication(day, window, "id", "publish", "ab", loads, counts, "uri", MOMENT, "host", "run")


def samples(path: Path) -> dict[tuple[str, ...], float]:
    """Return a file's samples by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text("utf-8"))
        for sample in family.samples
    }


def test_days_that_are_held_are_counted_also_before_anything_is_published(chosen: Settings, tmp_path: Path) -> None:
    """A gauge that is 0 when none is, so that its alarm ends."""
    held = {"torus": 1, "bitcoin": 0}
    metrics.write(chosen, replace(outcome(30), held_days=held, published_networks={"bitcoin": publication(BITCOIN)}))
    for network, days in held.items():
        found = samples(tmp_path / "metrics" / f"sot-{network}-published.prom")
        assert found["sot_ingest_held_days", network] == days


def test_a_network_has_files_of_its_own(chosen: Settings, tmp_path: Path) -> None:
    """How its run ended, when one succeeded and what its warehouse holds; a run leaves those of others as they are.

    One that failed leaves when one succeeded, too.
    """
    both = {snapshot.network: publication(snapshot) for snapshot in (TORUS, BITCOIN)}
    metrics.write(chosen, replace(outcome(0), published_networks=both, held_days=dict.fromkeys(both, 0)))
    files = {path.name: path for path in (tmp_path / "metrics").iterdir()}
    assert sorted(files) == [
        f"sot-{network}-{about}.prom" for network in ("bitcoin", "torus") for about in ("published", "run", "success")
    ]
    found: dict[tuple[str, ...], float] = {}
    for about in ("run", "success", "published"):
        found |= samples(files[f"sot-torus-{about}.prom"])
    assert {name for name, *_ in found} == metrics.METRICS.keys()
    assert {network for _, network, *_ in found} == {"torus"}
    assert found["sot_ingest_newest_day_end_timestamp_seconds", "torus"] == 1_754_092_800  # 2025-08-02T00:00:00Z
    assert found["sot_ingest_newest_rows", "torus", "raw_alerts"] == 7
    assert found["sot_ingest_last_run_duration_seconds", "torus"] == 12
    assert found["sot_ingest_build_info", "torus", PIPELINE_VERSION] == 1

    before = {name: path.read_bytes() for name, path in files.items()}
    metrics.write(chosen, outcome(30, FAILED, asked=(TORUS,)))
    assert [name for name, path in files.items() if path.read_bytes() != before[name]] == ["sot-torus-run.prom"]
    assert samples(files["sot-torus-run.prom"])["sot_ingest_last_run_exit_code", "torus"] == 30


@pytest.mark.parametrize(
    ("ended", "torus", "bitcoin"),
    [
        (ended(0, torus="done", bitcoin="done"), 0, 0),
        (ended(30, FAILED, bitcoin="done"), 30, 0),
        (ended(30, FAILED), 30, 30),
        (ended(30, FAILED, replace(MISSING, snapshot=BITCOIN)), 30, 20),
        (ended(20, MISSING, bitcoin="done"), 20, 0),
        (ended(35, FAILED, torus="unknown", bitcoin="done"), 35, 0),
        (ended(35, FAILED, replace(FAILED, snapshot=BITCOIN), bitcoin="unknown"), 30, 35),
        (ended(35, MISSING, replace(FAILED, snapshot=BITCOIN), bitcoin="unknown"), 20, 35),
        (ended(30, FAILED, DONE, replace(FAILED, snapshot=BITCOIN), torus="done"), 0, 30),
        (ended(30, FAILED, bitcoin="left"), 30, None),
        (ended(20, MISSING, bitcoin="left"), 20, None),
        (ended(30), 30, 30),
        (ended(40), 40, 40),
        (ended(143, FAILED, bitcoin="done"), 143, 0),
        (ended(143, FAILED), 143, 143),
        (ended(10, torus="done", bitcoin="left"), 0, None),
        (replace(ended(30, FAILED), standings={TORUS: "requested"}), 30, 0),
        (replace(ended(35), standings={}, cause="no warehouse"), 35, 35),
    ],
)
def test_an_exit_code_is_about_its_network(ended: Outcome, torus: int, bitcoin: int | None) -> None:
    """Another one's failure is not in it; what no step explains is about all whose steps are not done.

    None where another run is at work. A network of which nothing was asked had nothing left to do, unless the run ended
    before that was known.
    """
    assert (ended.code_of("torus"), ended.code_of("bitcoin")) == (torus, bitcoin)


def test_a_run_that_left_the_network_to_another_run_replaces_nothing(chosen: Settings, tmp_path: Path) -> None:
    """The other run says how it ended."""
    metrics.write(chosen, ended(10, torus="left", bitcoin="left"))
    assert not (tmp_path / "metrics").exists()


def test_the_node_exporter_can_read_the_files(chosen: Settings, tmp_path: Path) -> None:
    """It is another user, whatever this one's umask is."""
    before = os.umask(0o077)
    try:
        metrics.write(chosen, outcome(0))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "metrics").iterdir()} == {0o644}


def test_a_file_that_cannot_be_written_is_named(chosen: Settings, tmp_path: Path) -> None:
    """And nothing is left beside it."""
    (tmp_path / "metrics" / "sot-torus-run.prom").mkdir(parents=True)
    with pytest.raises(WorkDirectoryError, match=r"sot-torus-run\.prom: Is a directory"):
        metrics.write(chosen, outcome(0, asked=(TORUS,)))
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["sot-torus-run.prom"]
