"""INGESTION_TABLES: what a snapshot must have, and all that its publication shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.operations.report import collected, render
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, Reader, ServerReader, a_day, in_directory, multiset
from tests.support.inprocess import in_process
from tests.support.inprocess import ingest as in_order
from tests.support.snapshots import Bucket, SnapshotFiles, contract
from tests.support.sot import Sot
from tests.support.sot import ingest as steps_of_sot

ALERTS, FEATURES, CLUSTERS, LABELS = "raw_alerts", "raw_features", "raw_clusters", "raw_address_labels"
TWO = f"{FEATURES},{LABELS}"


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A snapshot with the files of all tables."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def deployment(server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """The pipeline for all tables."""
    return Deployment(
        in_directory(tmp_path / "bucket"), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"}
    )


def without(files: SnapshotFiles, *tables: str) -> None:
    """Publish the snapshot as upstream does that exports some tables no longer: neither listed nor there."""
    for table in tables:
        listed = files.manifest()
        del listed["sha256"][files.names[table]]
        files.write_manifest(listed)
        files.remove(table)


def ingest(deployment: Deployment, files: SnapshotFiles, tables: str | None = None) -> list[str]:
    """Run the snapshot's day for some tables, for all without; return what was done."""
    deployment.variables.pop("INGESTION_TABLES", None)
    if tables is not None:
        deployment.variables["INGESTION_TABLES"] = tables
    result = deployment.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    return result.done


def assert_shown(deployment: Deployment, files: SnapshotFiles, *tables: str) -> None:
    """Readers see the files of these tables, and no row of the date in any other view."""
    for table in contract():
        expected = files.expected_rows(table) if table in tables else []
        assert multiset(deployment.rows(table, files.snapshot)) == multiset(expected)
    assert set(deployment.publications(files.snapshot)[-1]["load_ids"]) == set(tables)


def report(deployment: Deployment, *command: str) -> list[dict[str, Any]]:
    """Return what a verb says as JSON."""
    result = deployment.command("sot-ingest", *command, "--date", "2025-08-01", "--json")
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_snapshot_without_a_table_names_the_setting(deployment: Deployment, files: SnapshotFiles) -> None:
    """Not listed, and listed but not there: the line says how to go on without it."""
    files.remove(CLUSTERS)
    unlisted: dict[str, Any] = files.manifest()
    del unlisted["sha256"]["clusters.parquet"]
    for code, step in ((20, "FindSnapshot"), (30, "ValidateManifest")):
        result = deployment.run(files.snapshot)
        assert result.exit_code == code
        error = next(event for event in result.errors() if "step" in event)
        assert error["step"] == step
        assert "leave raw_clusters out of INGESTION_TABLES" in error["hint"]
        files.write_manifest(unlisted)


def test_only_the_tables_of_the_setting_are_needed_and_shown(
    reader: Reader, files: SnapshotFiles, tmp_path: Path
) -> None:
    """What upstream exports no longer is missed by no step and no verb, and a second run has nothing to do."""
    metrics = tmp_path / "metrics.prom"
    variables = {"INGESTION_NETWORKS": "torus", "METRICS_PATH": str(metrics)}
    deployment = Deployment(in_directory(tmp_path / "bucket"), reader, tmp_path / "run", variables)
    without(files, ALERTS, CLUSTERS)
    ingest(deployment, files, TWO)
    assert_shown(deployment, files, FEATURES, LABELS)
    measured = re.findall(
        r'^sot_ingest_newest_rows\{.*table="(\w+)"',
        metrics.with_stem("metrics-torus-published").read_text("utf-8"),
        re.MULTILINE,
    )
    assert set(measured) == {FEATURES, LABELS}
    assert ingest(deployment, files, TWO) == []
    (plan,) = report(deployment, "plan")
    assert plan["steps"] == []
    (status,) = report(deployment, "status", "--days", "1")
    assert (status["state"], status["step"]) == ("published", None)
    assert set(status["rows"]) == {FEATURES, LABELS}
    assert deployment.command("sot-ingest", "status", "--days", "1", "--date", "2025-08-01").exit_code == 0
    verified = deployment.command("sot-ingest", "verify", "--deep", "--date", "2025-08-01")
    assert verified.exit_code == 0, verified.stdout


def test_the_report_tells_no_rows_from_no_table(
    server_reader: ServerReader, files: SnapshotFiles, tmp_path: Path
) -> None:
    """A table that the publication does not name has a dash, and one of no rows a 0."""
    files.without_rows(LABELS)
    _, context = in_process(files.root, server_reader, tmp_path / "run", INGESTION_TABLES=TWO)
    in_order(context, files.snapshot)
    page = render(collected(context, days=1, last=files.snapshot.processing_date))
    assert 'data-label="alerts">–<' in page
    assert 'data-label="address labels">0<' in page


def test_a_file_that_is_there_is_not_loaded(deployment: Deployment, files: SnapshotFiles) -> None:
    """Whatever is listed: only the tables of the setting are downloaded and loaded."""
    files.overwrite(ALERTS, b"no Parquet", digest=False)
    ingest(deployment, files, TWO)
    assert_shown(deployment, files, FEATURES, LABELS)
    assert {load["table_name"] for load in deployment.ledger(files.snapshot)} == {FEATURES, LABELS}


def test_fewer_tables_leave_a_published_day_as_it_is(deployment: Deployment, files: SnapshotFiles) -> None:
    """Also for the audits; a newer manifest is published with fewer, and then no older row of the others is seen."""
    ingest(deployment, files)
    assert ingest(deployment, files, TWO) == []
    assert_shown(deployment, files, *contract())
    assert deployment.command("sot-ingest", "verify", "--deep", "--date", "2025-08-01").exit_code == 0
    without(files, ALERTS, CLUSTERS)
    ingest(deployment, files, TWO)
    assert_shown(deployment, files, FEATURES, LABELS)


def test_more_tables_load_what_a_published_day_lacks(deployment: Deployment, files: SnapshotFiles) -> None:
    """And that alone; plan and status say so before, and verify that readers do not see it."""
    ingest(deployment, files, TWO)
    del deployment.variables["INGESTION_TABLES"]
    (status,) = report(deployment, "status", "--days", "1")
    assert status["state"] == "half done"
    (plan,) = report(deployment, "plan")
    assert [step["tables"] for step in plan["steps"] if step["step"] == "LoadTable"] == [[ALERTS, CLUSTERS]]
    verified = deployment.command("sot-ingest", "verify", "--date", "2025-08-01")
    assert verified.exit_code == 3
    assert "INGESTION_TABLES" in verified.stdout
    done = ingest(deployment, files)
    loaded = {step for step in done if step.startswith("Loaded table")}
    assert loaded == {f"Loaded table {ALERTS}", f"Loaded table {CLUSTERS}"}
    assert_shown(deployment, files, *contract())
    assert ingest(deployment, files) == []


def test_a_rollback_to_fewer_tables_stays(deployment: Deployment, files: SnapshotFiles) -> None:
    """An operator chose it: runs for more tables leave the day until upstream publishes it again."""
    ingest(deployment, files, TWO)
    ingest(deployment, files)
    back = deployment.command("sot-ingest", "rollback", "--date", "2025-08-01", "--network", "torus", "--yes")
    assert back.exit_code == 0, back.stderr
    assert_shown(deployment, files, FEATURES, LABELS)
    assert ingest(deployment, files) == []
    assert deployment.command("sot-ingest", "verify", "--date", "2025-08-01").exit_code == 0


def test_a_rerun_is_of_the_tables_of_the_setting(deployment: Deployment, files: SnapshotFiles) -> None:
    """All of them without --table; another one is a mistake on the command line."""
    without(files, ALERTS, CLUSTERS)
    ingest(deployment, files, TWO)
    result = deployment.rerun(files.snapshot)
    assert result.exit_code == 0, result.stderr
    assert_shown(deployment, files, FEATURES, LABELS)
    refused = deployment.rerun(files.snapshot, "--table", ALERTS)
    assert refused.exit_code == 2
    assert "raw_alerts is not in INGESTION_TABLES" in refused.stderr


@pytest.mark.parametrize(
    ("value", "says"),
    [("raw_alerts,alerts", "'alerts': expected some of raw_alerts"), ("raw_alerts,raw_alerts", "named twice")],
)
def test_a_wrong_setting_starts_nothing(deployment: Deployment, value: str, says: str) -> None:
    """Exit 2, with the names that there are."""
    deployment.variables["INGESTION_TABLES"] = value
    result = deployment.run(a_day())
    assert result.exit_code == 2
    assert says in result.stderr


# From the SOT ClickHouse


@pytest.fixture
def sot(clickhouse: ClickHouseServer, database_prefix: str, samples: Path) -> Sot:
    """A day of torus in upstream's tables."""
    sot = Sot(clickhouse, f"{database_prefix}sot")
    sot.fill(SnapshotFiles(samples, a_day()))
    return sot


@pytest.fixture
def from_sot(sot: Sot, server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """From there into the same server."""
    return Deployment(sot.variables(), server_reader, tmp_path / "run")


def test_only_the_tables_of_the_setting_are_read(from_sot: Deployment, sot: Sot) -> None:
    """The others need not be there."""
    for table in ("analyzers_alerts", "analyzers_alert_clusters"):
        sot.server.http(f"DROP TABLE {sot.database}.{table} SYNC")
    from_sot.variables["INGESTION_TABLES"] = TWO
    steps_of_sot(from_sot, a_day())
    assert set(from_sot.published(a_day())) == {FEATURES, LABELS}
    assert steps_of_sot(from_sot, a_day()) == []


def test_a_published_day_of_the_sot_is_left_by_fewer_and_loaded_by_more(from_sot: Deployment, sot: Sot) -> None:
    """Fewer than published: nothing to do, until upstream changes the day. More: only what is missing is loaded."""
    table = f"{sot.database}.analyzers_features"
    steps_of_sot(from_sot, a_day())
    from_sot.variables["INGESTION_TABLES"] = TWO
    assert steps_of_sot(from_sot, a_day()) == []
    sot.server.http(f"INSERT INTO {table} SELECT * REPLACE (9 AS kcore, 9 AS _version) FROM {table} FINAL LIMIT 1")
    assert "PublishSnapshot" in steps_of_sot(from_sot, a_day())
    assert set(from_sot.published(a_day())) == {FEATURES, LABELS}
    del from_sot.variables["INGESTION_TABLES"]
    loaded = [step for step in steps_of_sot(from_sot, a_day()) if step.startswith("LoadTable")]
    assert not {f"LoadTable {FEATURES}", f"LoadTable {LABELS}"} & set(loaded)
    sot.assert_readers_see_final(from_sot, a_day())
    assert steps_of_sot(from_sot, a_day()) == []


def test_nan_and_amounts_as_text_come_from_the_sot(
    clickhouse: ClickHouseServer, database_prefix: str, server_reader: ServerReader, samples: Path, tmp_path: Path
) -> None:
    """NULL in volume_std is NaN, text that spells an amount is that: both digests agree, and so does verify --deep."""
    sot = Sot(clickhouse, f"{database_prefix}sot", {"volume_std": "Nullable(Float64)", "total_in_usd": "String"})
    sot.fill(SnapshotFiles(samples, a_day()))
    table = f"{sot.database}.analyzers_features"
    changed = "NULL AS volume_std, '0012.50' AS total_in_usd, 9 AS _version"
    sot.server.http(f"INSERT INTO {table} SELECT * REPLACE ({changed}) FROM {table} FINAL")
    deployment = Deployment(sot.variables(), server_reader, tmp_path / "run")
    steps_of_sot(deployment, a_day())
    seen = "SELECT countIf(isNaN(volume_std)) = count(), groupUniqArray(toString(total_in_usd)) FROM {db}.raw_features"
    assert deployment.query("torus", seen) == [(1, ["12.5"])]
    verified = deployment.command("sot-ingest", "verify", "--deep", "--date", "2025-08-01")
    assert verified.exit_code == 0, verified.stdout
