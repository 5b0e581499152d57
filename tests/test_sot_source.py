"""The SOT ClickHouse as the source: what FINAL gives arrives, and what changes meanwhile is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
import urllib3

from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, Reader, a_day
from tests.support.snapshots import LABELS, SnapshotFiles, contract

#: Table of ours: table of theirs, and the key by which ReplacingMergeTree replaces.
THEIRS = {
    "raw_alerts": ("analyzers_alerts", "processing_date, window_days, alert_id"),
    "raw_features": ("analyzers_features", "processing_date, window_days, address"),
    "raw_clusters": ("analyzers_alert_clusters", "processing_date, window_days, cluster_id"),
    LABELS: ("core_address_labels", "network, address, label"),
}
DAYS = ("2025-08-01", "2025-08-02")


class Sot:
    """A database like upstream's, for torus, filled from the samples with several versions of every key."""

    def __init__(self, server: ClickHouseServer, database: str, samples: Path) -> None:
        self.server, self.database, self.samples = server, database, samples
        server.http(f"CREATE DATABASE {database}")
        for table in THEIRS:
            self._create(table)
            for day in DAYS if table != LABELS else DAYS[:1]:
                self._fill(table, SnapshotFiles(samples, a_day(day)).path(table).read_bytes())

    def columns(self, table: str) -> dict[str, str]:
        """Return upstream's columns: the labels know no date, and have times of their own."""
        ours = {name: kind for name, kind in contract()[table].items() if name != "created_at"}
        if table != LABELS:
            return ours
        known = {name: kind for name, kind in ours.items() if name not in {"processing_date", "window_days"}}
        return {**known, "created_timestamp": "UInt64", "updated_timestamp": "UInt64"}

    def _create(self, table: str) -> None:
        name, key = THEIRS[table]
        columns = ", ".join(f"{column} {kind}" for column, kind in self.columns(table).items())
        self.server.http(
            f"CREATE TABLE {self.database}.{name} ({columns}, _version UInt64) "
            f"ENGINE = ReplacingMergeTree(_version) ORDER BY ({key})"
        )

    def _fill(self, table: str, data: bytes) -> None:
        """Insert the rows as version 2, and before and after them, as version 1, others of the same keys."""
        name, key = THEIRS[table]
        columns = self.columns(table)
        structure = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        text = next(column for column, kind in columns.items() if kind == "String" and column not in key)
        listed = ", ".join(columns)
        older = ", ".join(f"'superseded' AS {column}" if column == text else column for column in columns)
        for values, version in ((older, 1), (listed, 2), (older, 1)):
            statement = (
                f"INSERT INTO {self.database}.{name} ({listed}, _version) "
                f"SELECT {values}, {version} FROM input('{structure}') FORMAT Parquet"
            )
            self._post(statement, data)

    def _post(self, statement: str, data: bytes) -> None:
        headers = {"X-ClickHouse-User": self.server.user, "X-ClickHouse-Key": self.server.password}
        url = f"http://{self.server.host}:{self.server.http_port}/"
        answer = urllib3.request("POST", url, fields=None, body=statement.encode() + b"\n" + data, headers=headers)
        assert answer.status == 200, answer.data[:500]

    def variables(self, user: str | None = None, password: str | None = None) -> dict[str, str]:
        """Return what points the pipeline at it."""
        return {
            "INGESTION_NETWORKS": "torus",
            "SOT_HOST": self.server.host,
            "SOT_PORT": str(self.server.port),
            "SOT_HTTP_PORT": str(self.server.http_port),
            "SOT_DATABASE": self.database,
            "SOT_USER": user or self.server.user,
            "SOT_PASSWORD": password if password is not None else self.server.password,
            "SOT_SETTLE_SECONDS": "0",
        }


@pytest.fixture
def sot(clickhouse: ClickHouseServer, database_prefix: str, samples: Path) -> Sot:
    """The SOT, on the shared server."""
    return Sot(clickhouse, f"{database_prefix}sot", samples)


@pytest.fixture
def deployment(sot: Sot, reader: Reader, tmp_path: Path) -> Deployment:
    """From the SOT into both warehouses."""
    return Deployment(sot.variables(), reader, tmp_path / "run")


def test_what_final_gives_arrives(deployment: Deployment, sot: Sot) -> None:
    """Two dates with several versions a key: every cell of the newest, and the ledger says where it came from."""
    for day in DAYS:
        result = deployment.run(a_day(day))
        assert result.exit_code == 0, result.stderr
        deployment.assert_readers_see(SnapshotFiles(sot.samples, a_day(day)))
        (publication,) = deployment.publications(a_day(day))
        assert publication["source"].startswith(f"clickhouse://{sot.server.host}:{sot.server.port}/{sot.database}/")
    assert deployment.work_files() == {}
    again = deployment.run(a_day())
    assert again.exit_code == 0
    assert [event for event in again.log() if "step" in event] == []


def test_a_date_without_rows_is_a_missing_snapshot(deployment: Deployment) -> None:
    """Exit 20, as for S3."""
    result = deployment.run(a_day("2025-08-09"))
    assert result.exit_code == 20, result.stderr
