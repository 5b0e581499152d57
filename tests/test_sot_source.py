"""The SOT ClickHouse as the source: what FINAL gives arrives, and nothing else is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import Deployment, Reader, a_day, multiset
from tests.support.snapshots import SnapshotFiles
from tests.support.sot import THEIRS, Sot

DAYS = ("2025-08-01", "2025-08-02")

#: Types that hold the samples' values, but are not ours.
OTHER_TYPES = {
    "severity": "LowCardinality(Nullable(String))",
    "typology_type": "LowCardinality(String)",
    "alert_confidence_score": "Float64",
    "volume_usd": "Nullable(Decimal(30, 18))",
    "total_volume_usd": "Decimal(60, 20)",
    "degree_in": "Int64",
    "tx_in_count": "Nullable(UInt64)",
    "is_whale": "Nullable(Bool)",
    "hourly_activity": "Array(Int32)",
    "related_alert_ids": "Array(LowCardinality(String))",
    "confidence_score": "Float64",
    "pagerank": "Nullable(Float64)",
}


@pytest.fixture
def sot(clickhouse: ClickHouseServer, database_prefix: str, samples: Path) -> Sot:
    """Two days of torus, on the shared server."""
    return filled(Sot(clickhouse, f"{database_prefix}sot"), samples)


def filled(sot: Sot, samples: Path, network: str = "torus") -> Sot:
    """Fill it with both days of a network."""
    for day in DAYS:
        sot.fill(SnapshotFiles(samples, a_day(day, network)))
    return sot


@pytest.fixture
def deployment(sot: Sot, reader: Reader, tmp_path: Path) -> Deployment:
    """From the SOT into both warehouses."""
    return Deployment(sot.variables(), reader, tmp_path / "run")


def test_what_final_gives_arrives(deployment: Deployment, sot: Sot, samples: Path) -> None:
    """Two dates with several versions a key: every cell of the newest, and the ledger says where it came from."""
    for day in DAYS:
        result = deployment.run(a_day(day))
        assert result.exit_code == 0, result.stderr
        deployment.assert_readers_see(SnapshotFiles(samples, a_day(day)))
        (publication,) = deployment.publications(a_day(day))
        source = f"clickhouse://{sot.server.host}:{sot.server.port}/{sot.database}/"
        assert publication["source"].startswith(source)
        assert {load["source"] for load in deployment.ledger(a_day(day))} == {publication["source"]}
    assert deployment.work_files() == {}
    again = deployment.run(a_day())
    assert again.exit_code == 0
    assert [event for event in again.log() if "step" in event] == []


def test_a_date_without_rows_is_a_missing_snapshot(deployment: Deployment) -> None:
    """Exit 20, as for S3."""
    result = deployment.run(a_day("2025-08-09"))
    assert result.exit_code == 20, result.stderr


def test_a_table_without_rows_is_a_missing_snapshot(deployment: Deployment, sot: Sot, samples: Path) -> None:
    """Unless an operator said that it may be empty: then it is, for readers too."""
    sot.server.http(f"DELETE FROM {sot.database}.analyzers_alerts WHERE processing_date = '2025-08-01'")
    assert deployment.run(a_day()).exit_code == 20
    deployment.variables["SOT_MAY_BE_EMPTY"] = "raw_alerts"
    result = deployment.run(a_day())
    assert result.exit_code == 0, result.stderr
    assert deployment.rows("raw_alerts", a_day()) == []
    expected = SnapshotFiles(samples, a_day()).expected_rows("raw_features")
    assert multiset(deployment.rows("raw_features", a_day())) == multiset(expected)


def test_other_types_of_the_same_values_arrive(
    clickhouse: ClickHouseServer, database_prefix: str, reader: Reader, samples: Path, tmp_path: Path
) -> None:
    """Both digests are over our types: wider, nullable and dictionary-encoded ones make no difference."""
    sot = filled(Sot(clickhouse, f"{database_prefix}sot", OTHER_TYPES), samples)
    deployment = Deployment(sot.variables(), reader, tmp_path / "run")
    result = deployment.run(a_day())
    assert result.exit_code == 0, result.stderr
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))


def test_every_network_has_its_database(
    clickhouse: ClickHouseServer, database_prefix: str, reader: Reader, samples: Path, tmp_path: Path
) -> None:
    """``{network}`` in SOT_DATABASE stands for it."""
    networks = ("torus", "bitcoin")
    for network in networks:
        filled(Sot(clickhouse, f"{database_prefix}sot_{network}"), samples, network)
    made = Sot(clickhouse, f"{database_prefix}sot_empty")
    pattern = f"{database_prefix}sot_{{network}}"
    variables = made.variables(SOT_DATABASE=pattern, INGESTION_NETWORKS=",".join(networks))
    deployment = Deployment(variables, reader, tmp_path / "run")
    result = deployment.command("sot-ingest", "run", "--date", DAYS[0], "--local-scheduler")
    assert result.exit_code == 0, result.stderr
    for network in networks:
        deployment.assert_readers_see(SnapshotFiles(samples, a_day(DAYS[0], network)))


def test_nothing_but_the_four_tables_is_read(
    own_clickhouse: Callable[..., OwnClickHouse], reader: Reader, samples: Path, tmp_path: Path
) -> None:
    """A user who may SELECT these and no more is enough; the server's log of queries shows no other table."""
    password = "p@ss'w\"ord"
    grants = tuple(f"GRANT SELECT ON sot.{name}" for name, _ in THEIRS.values())
    server = own_clickhouse(users={"reader": User(password, grants)}, log_level="debug")
    sot = filled(Sot(server, "sot"), samples)
    server.http("CREATE TABLE sot.core_money_flows (amount UInt64) ENGINE = MergeTree ORDER BY amount")
    deployment = Deployment(sot.variables(SOT_USER="reader", SOT_PASSWORD=password), reader, tmp_path / "run")

    result = deployment.run(a_day())

    assert result.exit_code == 0, result.stderr
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))
    queries = server.queries("reader")
    tables = {table.replace("`", "") for query in queries for table in re.findall(r"(?:FROM|TABLE|JOIN) (\S+)", query)}
    assert tables == {f"sot.{name}" for name, _ in THEIRS.values()}
    assert {query.split()[0] for query in queries} == {"SELECT", "DESCRIBE"}
