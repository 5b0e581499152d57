"""What can go wrong with the SOT ClickHouse: rows that change meanwhile, refusals, outages, other shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import Deployment, Reader, ServerReader, a_day, multiset
from tests.support.snapshots import SnapshotFiles
from tests.support.sot import THEIRS, Gate, Sot

SNAPSHOT = a_day()
OF_DAY = "processing_date = '2025-08-01'"
CHANGES = {
    "added": "INSERT INTO {table} SELECT * REPLACE ('another' AS alert_id) FROM {table} WHERE {day} LIMIT 1",
    "changed": "INSERT INTO {table} SELECT * REPLACE (concat(severity, '!') AS severity, _version + 9 AS _version) "
    "FROM {table} WHERE {day} LIMIT 1",
    "removed": "DELETE FROM {table} WHERE {day} AND alert_id = (SELECT min(alert_id) FROM {table} WHERE {day})",
}


@pytest.fixture
def sot(clickhouse: ClickHouseServer, database_prefix: str, samples: Path) -> Sot:
    """One day of torus, on the shared server."""
    sot = Sot(clickhouse, f"{database_prefix}sot")
    sot.fill(SnapshotFiles(samples, SNAPSHOT))
    return sot


@pytest.fixture
def deployment(sot: Sot, reader: Reader, tmp_path: Path) -> Deployment:
    """From the SOT into both warehouses."""
    return Deployment(sot.variables(), reader, tmp_path / "run")


@dataclass
class Once:
    """Acts before the first statement that is sent while ``when`` holds."""

    when: Callable[[bytes], bool]
    act: Callable[[], object]
    done: bool = False
    exported: list[str] = field(default_factory=list)  #: tables, each time that one was

    def __call__(self, statement: bytes) -> None:
        """Look at a statement."""
        for name, _ in THEIRS.values():
            if b"FORMAT Parquet" in statement and f".{name} FINAL".encode() in statement:
                self.exported.append(name)
        if not self.done and self.when(statement):
            self.done = True
            self.act()


def change(sot: Sot, kind: str) -> None:
    """Change one row of the alerts."""
    sot.server.http(CHANGES[kind].format(table=f"{sot.database}.analyzers_alerts", day=OF_DAY))


def assert_readers_see_what_final_gives(deployment: Deployment, sot: Sot) -> None:
    """Every cell of the alerts, which tests change, and the number of rows of the others."""
    final = sot.final("raw_alerts", OF_DAY)
    assert multiset(deployment.rows("raw_alerts", SNAPSHOT)) == multiset(final)
    assert len(deployment.rows("raw_features", SNAPSHOT)) == len(sot.final("raw_features", OF_DAY))


# Rows that change


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_between_manifest_and_load_is_caught(deployment: Deployment, sot: Sot, kind: str) -> None:
    """The message names the table and both digests, nothing is published, and the rerun brings the new rows."""
    proof = deployment.work / str(SNAPSHOT) / "proofs" / "validate-checksums.json"
    once = Once(lambda _: proof.exists(), lambda: change(sot, kind))
    with Gate(sot.server, once).open() as gate:
        deployment.variables.update(gate.variables)
        caught = deployment.run(SNAPSHOT)
    assert once.done
    assert caught.exit_code == 30
    assert len(caught.errors()) == 1, caught.stderr
    (error,) = caught.errors()
    assert error["step"] == "LoadTable"
    said = re.search(r"analyzers_alerts changed .* rows have digest (\w+), the manifest says (\w+)", error["message"])
    assert said
    assert said[1] != said[2]
    assert deployment.publications(SNAPSHOT) == []

    deployment.variables.update(sot.variables())
    repaired = deployment.run(SNAPSHOT)
    assert repaired.exit_code == 0, repaired.stderr
    assert_readers_see_what_final_gives(deployment, sot)


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_change_while_it_is_read_yields_no_mixture(deployment: Deployment, sot: Sot, attempts: int) -> None:
    """The files are thrown away, and the step is tried again as often as the operator allows."""
    once = Once(lambda statement: b"analyzers_features FINAL" in statement and b"FORMAT Parquet" in statement, bool)
    once.act = lambda: change(sot, "changed")
    with Gate(sot.server, once).open() as gate:
        retries = {"INGESTION_RETRY_ATTEMPTS": str(attempts), "INGESTION_RETRY_DELAY": "0"}
        deployment.variables.update(gate.variables | retries)
        result = deployment.run(SNAPSHOT)
    assert once.done
    said = [event["message"] for event in result.log() if "changed while it was read" in event["message"]]
    assert len(said) == 1
    assert "analyzers_alerts" in said[0]
    if attempts == 1:
        assert result.exit_code == 30
        assert deployment.publications(SNAPSHOT) == []
        assert list((deployment.work / "export").rglob("*.parquet")) == []
    else:
        assert result.exit_code == 0, result.stderr
        assert once.exported.count("analyzers_alerts") == 2
        assert_readers_see_what_final_gives(deployment, sot)


def test_a_date_that_changes_while_it_settles_is_not_ready(deployment: Deployment, sot: Sot) -> None:
    """Exit 20, as for a snapshot that is not there; when upstream has finished, the next run ingests."""

    def keep_writing(statement: bytes) -> None:
        if b"analyzers_alerts FINAL" in statement:
            sot.server.http(
                f"INSERT INTO {sot.database}.analyzers_alerts SELECT * REPLACE (generateUUIDv4() AS alert_id) "
                f"FROM {sot.database}.analyzers_alerts WHERE {OF_DAY} LIMIT 1"
            )

    deployment.variables["SOT_SETTLE_SECONDS"] = "0.1"
    with Gate(sot.server, keep_writing).open() as gate:
        deployment.variables.update(gate.variables)
        result = deployment.run(SNAPSHOT)
    assert result.exit_code == 20, result.stderr
    assert list(deployment.work.rglob("*.parquet")) == []
    deployment.variables.update({**sot.variables(), "SOT_SETTLE_SECONDS": "0.1"})
    result = deployment.run(SNAPSHOT)
    assert result.exit_code == 0, result.stderr
    assert_readers_see_what_final_gives(deployment, sot)


def test_a_change_after_publication_is_published_anew(deployment: Deployment, sot: Sot) -> None:
    """A rerun notices it without reading the rows; a run without a change does nothing."""
    assert deployment.run(SNAPSHOT).exit_code == 0
    change(sot, "changed")
    assert deployment.run(SNAPSHOT).exit_code == 0
    assert_readers_see_what_final_gives(deployment, sot)
    assert len(deployment.publications(SNAPSHOT)) == 2
    again = deployment.run(SNAPSHOT)
    assert [event for event in again.log() if "step" in event] == []


# Refusals and outages


def test_a_wrong_password_is_told(
    own_clickhouse: Callable[..., OwnClickHouse], clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """Without the password in the log; the hint names the variables."""
    grants = tuple(f"GRANT SELECT ON sot.{name}" for name, _ in THEIRS.values())
    server = own_clickhouse(users={"reader": User("right", grants)})
    sot = Sot(server, "sot")
    variables = sot.variables(SOT_USER="reader", SOT_PASSWORD="canary-wrong")
    deployment = Deployment(variables, ServerReader(clickhouse, database_prefix), tmp_path / "run")
    result = deployment.run(SNAPSHOT)
    assert result.exit_code == 35
    assert result.errors()[0]["hint"] == "check SOT_USER and SOT_PASSWORD"
    assert "canary" not in result.stderr


def test_a_table_that_may_not_be_read_is_told(
    own_clickhouse: Callable[..., OwnClickHouse], samples: Path, reader: Reader, tmp_path: Path
) -> None:
    """The message has the grant that ClickHouse asks for."""
    grants = tuple(f"GRANT SELECT ON sot.{name}" for name, _ in list(THEIRS.values())[1:])
    server = own_clickhouse(users={"reader": User("right", grants)})
    sot = Sot(server, "sot")
    sot.fill(SnapshotFiles(samples, SNAPSHOT))
    deployment = Deployment(sot.variables(SOT_USER="reader", SOT_PASSWORD="right"), reader, tmp_path / "run")
    result = deployment.run(SNAPSHOT)
    assert result.exit_code == 35
    assert "analyzers_alerts" in result.errors()[0]["message"]
    assert "lacks a grant" in result.errors()[0]["hint"]


def test_a_server_that_is_killed_in_mid_export(
    own_clickhouse: Callable[..., OwnClickHouse], reader: Reader, samples: Path, tmp_path: Path
) -> None:
    """The run fails with the step, and the rerun fetches the tables that are not proven, and no other."""
    server = own_clickhouse()
    sot = Sot(server, "sot")
    sot.fill(SnapshotFiles(samples, SNAPSHOT))
    deployment = Deployment(sot.variables(), reader, tmp_path / "run")
    once = Once(
        lambda statement: b"analyzers_alert_clusters FINAL" in statement and b"FORMAT Parquet" in statement, bool
    )
    once.act = server.kill
    with Gate(server, once).open() as gate:
        deployment.variables.update(gate.variables)
        failed = deployment.run(SNAPSHOT)
        assert failed.exit_code == 30
        assert failed.errors()[0]["step"] == "DownloadManifest"
        server.start()
        result = deployment.run(SNAPSHOT)
    assert result.exit_code == 0, result.stderr
    assert once.exported == [
        "analyzers_alerts",
        "analyzers_features",
        "analyzers_alert_clusters",  # before the kill came
        "analyzers_alert_clusters",
        "core_address_labels",
    ]
    deployment.assert_readers_see(SnapshotFiles(samples, SNAPSHOT))


# Other shapes


@pytest.mark.parametrize(
    ("statement", "exit_code", "said"),
    [
        ("DROP TABLE {db}.analyzers_alert_clusters", 35, "analyzers_alert_clusters"),
        ("ALTER TABLE {db}.analyzers_alerts ADD COLUMN surprise String", 30, "unexpected 'surprise'"),
        ("ALTER TABLE {db}.analyzers_features DROP COLUMN pagerank", 30, "pagerank"),
        ("ALTER TABLE {db}.analyzers_features MODIFY COLUMN degree_in String", 30, "degree_in"),
    ],
    ids=["missing table", "unexpected column", "missing column", "another type"],
)
def test_another_shape_is_refused(deployment: Deployment, sot: Sot, statement: str, exit_code: int, said: str) -> None:
    """The error names what is not as it should be; nothing is published."""
    sot.server.http(statement.format(db=sot.database))
    result = deployment.run(SNAPSHOT)
    assert result.exit_code == exit_code, result.stderr
    assert any(said in error["message"] for error in result.errors()), result.stderr
    assert deployment.publications(SNAPSHOT) == []


def test_extra_columns_may_be_ignored(deployment: Deployment, sot: Sot) -> None:
    """By the setting that says so for files."""
    sot.server.http(f"ALTER TABLE {sot.database}.analyzers_alerts ADD COLUMN surprise String DEFAULT 'x'")
    deployment.variables["INGESTION_IGNORE_EXTRA_COLUMNS"] = "true"
    result = deployment.run(SNAPSHOT)
    assert result.exit_code == 0, result.stderr
    assert_readers_see_what_final_gives(deployment, sot)


@pytest.mark.parametrize(
    ("types", "value", "said"),
    [
        ({"degree_in": "Int64"}, "-1 AS degree_in", "degree_in is -1 in row"),
        ({"degree_in": "Nullable(UInt32)"}, "NULL AS degree_in", "degree_in is NULL in row"),
        ({"hourly_activity": "Array(Int32)"}, "[70000] AS hourly_activity", "hourly_activity[0] is 70000 in row"),
        ({"total_in_usd": "Decimal(76, 20)"}, "toDecimal256('1e30', 20) AS total_in_usd", "total_in_usd is 1"),
        ({"total_in_usd": "Decimal(76, 20)"}, "toDecimal256('1e-20', 20) AS total_in_usd", "total_in_usd is"),
    ],
    ids=["negative", "null", "in a list", "too large", "too many digits"],
)
def test_a_value_that_does_not_fit_is_named(
    clickhouse: ClickHouseServer,
    database_prefix: str,
    reader: Reader,
    samples: Path,
    tmp_path: Path,
    types: dict[str, str],
    value: str,
    said: str,
) -> None:
    """With its row, as for a file from S3; nothing is published."""
    sot = Sot(clickhouse, f"{database_prefix}sot", types)
    sot.fill(SnapshotFiles(samples, SNAPSHOT))
    table = f"{sot.database}.analyzers_features"
    clickhouse.http(
        f"INSERT INTO {table} SELECT * REPLACE ({value}, 9 AS _version) FROM {table} WHERE {OF_DAY} LIMIT 1"
    )
    deployment = Deployment(sot.variables(), reader, tmp_path / "run")
    result = deployment.run(SNAPSHOT)
    assert result.exit_code == 30
    assert any(said in error["message"] for error in result.errors()), result.stderr
    assert deployment.publications(SNAPSHOT) == []
