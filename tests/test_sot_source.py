"""The SOT ClickHouse as the source: what FINAL gives arrives, and what changes meanwhile is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3

from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import Deployment, Reader, a_day, multiset
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


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO {table} SELECT * REPLACE ('another' AS alert_id) FROM {table} LIMIT 1",
        "INSERT INTO {table} SELECT * REPLACE ('other' AS severity, 9 AS _version) FROM {table} LIMIT 1",
        "DELETE FROM {table} WHERE alert_id = (SELECT min(alert_id) FROM {table} WHERE processing_date = '2025-08-01')",
    ],
    ids=["added", "changed", "removed"],
)
def test_a_change_after_the_manifest_is_caught(deployment: Deployment, sot: Sot, change: str) -> None:
    """The message names the table and both digests, nothing is published, and the rerun brings the new rows."""
    snapshot = a_day()
    deployment.killed(
        "Validated checksums",
        1,
        *("sot-ingest", "run", "--date", "2025-08-01", "--network", "torus", "--local-scheduler", "--workers", "1"),
    )
    table = f"{sot.database}.analyzers_alerts"
    for load in deployment.loads(snapshot):  # what was loaded before the kill came is not this test's
        assert load
    sot.server.http(change.format(table=table))
    caught = deployment.run(snapshot)
    if caught.exit_code == 0:  # the kill came before the first load, and the manifest was made anew
        assert caught.events("Downloaded manifest")
    else:
        assert any("analyzers_alerts changed" in error["message"] for error in caught.errors()), caught.stderr
        assert deployment.publications(snapshot) == []
        repaired = deployment.run(snapshot)
        assert repaired.exit_code == 0, repaired.stderr
    columns = ", ".join(name for name in contract()["raw_alerts"] if name != "created_at")
    final = deployment_query(sot, f"SELECT {columns} FROM {table} FINAL WHERE processing_date = '2025-08-01'")
    assert multiset(deployment.rows("raw_alerts", snapshot)) == multiset(final)


def deployment_query(sot: Sot, query: str) -> list[tuple[object, ...]]:
    """Return rows of the SOT as an independent reader sees them."""
    import io  # noqa: PLC0415

    import pyarrow.parquet as pq  # noqa: PLC0415

    headers = {"X-ClickHouse-User": sot.server.user, "X-ClickHouse-Key": sot.server.password}
    url = f"http://{sot.server.host}:{sot.server.http_port}/"
    answer = urllib3.request("POST", url, body=f"{query} FORMAT Parquet".encode(), headers=headers)
    assert answer.status == 200, answer.data[:500]
    table = pq.read_table(io.BytesIO(answer.data))
    return list(zip(*[column.to_pylist() for column in table.columns], strict=True))


def test_a_date_without_rows_is_a_missing_snapshot(deployment: Deployment) -> None:
    """Exit 20, as for S3."""
    result = deployment.run(a_day("2025-08-09"))
    assert result.exit_code == 20, result.stderr


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE {db}.analyzers_alert_clusters", "analyzers_alert_clusters"),
        ("ALTER TABLE {db}.analyzers_alerts ADD COLUMN surprise String", "surprise"),
    ],
    ids=["missing table", "unexpected column"],
)
def test_another_shape_is_refused(deployment: Deployment, sot: Sot, statement: str, said: str) -> None:
    """The error names what is not as it should be; nothing is published."""
    sot.server.http(statement.format(db=sot.database))
    result = deployment.run(a_day())
    assert result.exit_code in {30, 35}
    assert any(said in error["message"] for error in result.errors()), result.stderr
    assert deployment.publications(a_day()) == []


def test_a_user_who_may_read_nothing_else_is_enough(
    own_clickhouse: Callable[..., OwnClickHouse], reader: Reader, samples: Path, tmp_path: Path
) -> None:
    """SELECT on the four tables: so no other table of the SOT is ever read, raw money flows among them."""
    grants = [f"GRANT SELECT ON sot.{name}" for name, _ in THEIRS.values()]
    server = own_clickhouse(users={"reader": User("p@ss'w\"ord", grants=tuple(grants))})
    sot = Sot(server, "sot", samples)
    server.http("CREATE TABLE sot.core_money_flows (amount UInt64) ENGINE = MergeTree ORDER BY amount")
    deployment = Deployment(sot.variables("reader", "p@ss'w\"ord"), reader, tmp_path / "run")
    result = deployment.run(a_day())
    assert result.exit_code == 0, result.stderr
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))
