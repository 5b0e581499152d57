"""The packaged audits over files that are good: upstream's samples and the demo's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.audits.catalogue import load_catalogue
from pipeline.audits.runner import AuditResult, Candidate, ask_audits
from pipeline.files.conversion import convert
from pipeline.files.parquet import read_footer
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES
from pipeline.warehouse import Warehouse
from pipeline.warehouse.load import insert_of
from pipeline.warehouse.nearest import PublishedDay
from tests.support.snapshots import Bucket, SnapshotFiles

DAYS = (date(2025, 8, 1), date(2025, 8, 2))


def load(warehouse: Warehouse, files: SnapshotFiles) -> PublishedDay:
    """Load a snapshot's files as a run would."""
    loads, counts = {}, {}
    for table in TABLES:
        path, load_id = files.path(table.name), str(uuid4())
        footer = read_footer(path, path.name)
        insert = insert_of(
            files.snapshot, table, path, convert(table, footer.columns), load_id, datetime(2025, 8, 3, tzinfo=UTC)
        )
        warehouse.insert_parquet(insert, query_id=load_id, report=lambda _: None)
        loads[table.name], counts[table.name] = load_id, footer.rows
    return PublishedDay(files.snapshot.processing_date, loads, counts)


def audited(warehouse: Warehouse, *snapshots: SnapshotFiles) -> Iterator[AuditResult]:
    """Yield what each audit finds in snapshots of following days, each compared with those before it."""
    before: list[PublishedDay] = []
    for files in snapshots:
        loaded = load(warehouse, files)
        audits = load_catalogue(None, ["torus"]).chosen("torus")
        candidate = Candidate(files.snapshot, loaded.load_ids, loaded.row_counts, before)
        yield from (result for result in ask_audits(warehouse, candidate, audits) if result.wrong)
        before.insert(0, loaded)


def test_the_demo_is_good(warehouse: Warehouse, tmp_path: Path) -> None:
    """Nothing is held, and nothing warned of, so that who tries it out sees what is ordinary."""
    bucket = Bucket(tmp_path)
    assert [
        (each.name, each.messages) for each in audited(warehouse, *(bucket.snapshot(day=day) for day in DAYS))
    ] == []


@pytest.mark.parametrize("network", ["torus", "bitcoin", "ethereum"])
def test_upstreams_samples_are_not_held(warehouse: Warehouse, samples: Path, network: str) -> None:
    """Their values are random: what random values break is a warning, and of unknown words the first day's alone."""
    snapshots = [SnapshotFiles(samples, Snapshot(network, day, 195)) for day in DAYS]
    found = [(each.name, each.chosen.level) for each in audited(warehouse, *snapshots)]
    usual = [("clusters_identities", "warn"), ("features_identities", "warn"), ("features_sums", "warn")]
    assert sorted(found) == sorted([*usual, *usual, ("alerts_enumerations", "warn"), ("labels_enumerations", "warn")])
