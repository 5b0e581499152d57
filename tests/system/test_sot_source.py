"""The SOT ClickHouse as the source: what FINAL gives arrives, and nothing else is read."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.graph import steps
from pipeline.operations.doctor import Examination, services
from tests.support.clickhouse import ROOT, ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import ALONE, Deployment, Reader, ServerReader, a_day, multiset
from tests.support.snapshots import SnapshotFiles
from tests.support.sot import THEIRS, Gate, Sot, context_of, ingest, unheard

DAYS = ("2025-08-01", "2025-08-02")
NETWORKS = ("ethereum", "bitcoin", "torus")
PASSWORD = "p@ss'w\"ord"

#: Those that the documentation lists, without the user.
GRANTS = re.findall(
    r"^(GRANT .* ON sot_production\S*) TO \w+;$", (ROOT / "docs/sot.md").read_text("utf-8"), re.MULTILINE
)

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


@dataclass(frozen=True)
class Upstream:
    """A server that is not the warehouse, with a database a network."""

    server: OwnClickHouse
    databases: dict[str, Sot]  #: by network

    def variables(self, user: str) -> dict[str, str]:
        """Return what points the pipeline at it, for all networks."""
        changed = {"SOT_DATABASE": "sot_{network}", "INGESTION_NETWORKS": ",".join(NETWORKS)}
        return self.databases["torus"].variables(**changed, SOT_USER=user, SOT_PASSWORD=PASSWORD)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """All six samples, superseded versions among them, and tables that are not ours.

    ``reader`` has the documented grants and may change no setting; ``three`` lacks the first of them.
    """
    grants = [grant.replace("sot_production", f"sot_{network}") for network in NETWORKS for grant in GRANTS]
    users = {
        "reader": User(PASSWORD, tuple(grants), "readonly"),
        "three": User(PASSWORD, tuple(grant for grant in grants if "analyzers_alerts" not in grant)),
    }
    with OwnClickHouse(tmp_path_factory.mktemp("upstream"), users=users, log_level="debug") as server:
        databases = {network: Sot(server, f"sot_{network}") for network in NETWORKS}
        server.http("SYSTEM STOP MERGES")  # they would do what FINAL is there for
        for network, sot in databases.items():
            for day in DAYS:
                sot.fill(SnapshotFiles(ROOT / "tests" / "samples", a_day(day, network)))
            server.http(f"CREATE TABLE {sot.database}.core_money_flows (amount UInt64) ENGINE = MergeTree ORDER BY ()")
        yield Upstream(server, databases)


@pytest.fixture
def deployment(upstream: Upstream, reader: Reader, tmp_path: Path) -> Deployment:
    """From there into both warehouses, as the strictest of users."""
    return Deployment(upstream.variables("reader"), reader, tmp_path / "run")


@pytest.fixture
def sot(clickhouse: ClickHouseServer, database_prefix: str, samples: Path) -> Sot:
    """A day of torus, on the shared server."""
    sot = Sot(clickhouse, f"{database_prefix}sot")
    sot.fill(SnapshotFiles(samples, a_day()))
    return sot


def into_server(sot: Sot, clickhouse: ClickHouseServer, prefix: str, directory: Path) -> Deployment:
    """Return a deployment from a SOT into the shared server."""
    return Deployment(sot.variables(), ServerReader(clickhouse, prefix), directory / "run")


def test_a_deep_verification_exports_again(
    sot: Sot, clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """Another manifest and other bytes, but the same rows: all of them are compared, and equal the published ones."""
    deployment = into_server(sot, clickhouse, database_prefix, tmp_path)
    assert deployment.run(a_day()).exit_code == 0
    result = deployment.command("sot-ingest", "verify", "--date", "2025-08-01", "--network", "torus", "--deep")
    assert result.stdout.count("\n") == 1, result.stdout
    assert "as they were loaded" in result.stdout
    assert [load["state"] for load in deployment.ledger(a_day())].count("compared") == 4


#: What is ingested from there: every network's first day, and each second day once.
INTO_SERVER = ((DAYS[0], NETWORKS), (DAYS[1], ("torus",)))
INTO_EMBEDDED = ((DAYS[1], ("ethereum", "bitcoin")),)


def test_what_final_gives_arrives(deployment: Deployment, upstream: Upstream) -> None:
    """Three networks, two dates, every cell; the ledger says from where; the server's log shows no other table."""
    days = INTO_SERVER if isinstance(deployment.reader, ServerReader) else INTO_EMBEDDED
    for day, networks in days:
        chosen = [option for network in networks for option in ("--network", network)]
        result = deployment.command("sot-ingest", "run", "--date", day, *chosen, *ALONE)
        assert result.exit_code == 0, result.stderr
        for network in networks:
            snapshot = a_day(day, network)
            upstream.databases[network].assert_readers_see_final(deployment, snapshot)
            (publication,) = deployment.publications(snapshot)
            source = f"clickhouse://{upstream.server.host}:{upstream.server.port}/sot_{network}/{snapshot}#"
            assert publication["source"].startswith(source)
            assert {load["source"] for load in deployment.ledger(snapshot)} == {publication["source"]}
    again = deployment.command("sot-ingest", "run", "--date", day, *chosen, *ALONE)
    assert (again.exit_code, again.done) == (0, [])
    assert deployment.work_files() == {}
    assert_only_four_tables_were_read(upstream)


def assert_only_four_tables_were_read(upstream: Upstream) -> None:
    """Look at every statement that the server logged of the pipeline's user."""
    queries = upstream.server.queries("reader")
    named = {name.replace("`", "") for query in queries for name in re.findall(r"(?:FROM|TABLE|JOIN) (\S+)", query)}
    theirs = {f"sot_{network}.{table}" for network in NETWORKS for table, _ in THEIRS.values()}
    assert named == {*theirs, "system.settings"}
    assert {query.split()[0] for query in queries} == {"SELECT", "DESCRIBE", "EXPLAIN"}


def test_two_tables_are_exported_at_a_time(
    sot: Sot, clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """An export waits for another one to begin; each is a step with its rows and bytes, and so is the manifest."""
    pair = threading.Barrier(2)

    def wait_for_another(statement: bytes) -> None:
        if b"FORMAT Parquet" in statement and sot.database.encode() in statement:
            pair.wait(60)

    deployment = into_server(sot, clickhouse, database_prefix, tmp_path)
    with Gate(sot.server, wait_for_another).open() as gate:
        deployment.variables.update(gate.variables)
        result = deployment.run(a_day(), "--workers", "2")
    assert result.exit_code == 0, result.stderr
    assert not pair.broken
    sot.assert_readers_see_final(deployment, a_day())
    query = "SELECT step, table_name, JSONExtractUInt(facts, 'rows') > 0 FROM {db}.sot_steps WHERE state = 'done'"
    recorded = deployment.query(
        "torus", f"{query} AND step IN ('ExportTable', 'WriteManifest') ORDER BY step, table_name"
    )
    assert recorded == [*(("ExportTable", table, 1) for table in sorted(THEIRS)), ("WriteManifest", "", 1)]


def test_a_plan_names_the_tables_that_are_not_exported(
    sot: Sot, clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """And those whose rows are others since; to ask leaves nothing."""
    deployment = into_server(sot, clickhouse, database_prefix, tmp_path)

    def planned() -> list[tuple[str, list[str]]]:
        before = deployment.work_files()
        result = deployment.command("sot-ingest", "plan", "--date", "2025-08-01", "--json")
        assert deployment.work_files() == before
        return [(step["step"], step["tables"]) for step in json.loads(result.stdout)[0]["steps"]][:3]

    assert planned() == [("ExportTable", list(THEIRS)), ("WriteManifest", []), ("DownloadManifest", [])]
    context = context_of(deployment)
    assert context.source.wait_until_ready(a_day())
    for table in context.settings.tables:
        steps.export_table(context, a_day(), table, unheard)
    assert planned()[0] == ("WriteManifest", [])
    name = f"{sot.database}.analyzers_alerts"
    sot.server.http(f"INSERT INTO {name} SELECT * REPLACE ('another' AS alert_id) FROM {name} FINAL LIMIT 1")
    assert planned()[:2] == [("ExportTable", ["raw_alerts"]), ("WriteManifest", [])]
    steps.write_manifest(context_of(deployment), a_day(), unheard)
    assert planned()[0] == ("DownloadManifest", [])


def test_versions_are_superseded_there(upstream: Upstream) -> None:
    """What the test above compares is not what a plain SELECT gives."""
    for network, sot in upstream.databases.items():
        for table, _ in THEIRS.values():
            plain, final = (
                int(sot.server.http(f"SELECT count() FROM sot_{network}.{table} {modifier}"))
                for modifier in ("", "FINAL")
            )
            assert plain > final > 0


def test_a_date_without_rows_is_a_missing_snapshot(
    upstream: Upstream, server_reader: ServerReader, tmp_path: Path
) -> None:
    """Exit 20, as for S3; the line names the tables that have none, and nothing is left on disk."""
    deployment = Deployment(upstream.variables("reader"), server_reader, tmp_path / "run")
    result = deployment.run(a_day("2025-08-09"))
    assert result.exit_code == 20, result.stderr
    (error,) = result.errors()
    said = "Found no rows of torus/2025-08-09/195 in analyzers_alerts, analyzers_features, analyzers_alert_clusters at "
    assert error["message"].startswith(said)
    assert "SOT_MAY_BE_EMPTY" in error["hint"]
    assert deployment.work_files() == {}


def test_a_table_that_may_not_be_read_is_told(upstream: Upstream, server_reader: ServerReader, tmp_path: Path) -> None:
    """The message has the grant that ClickHouse asks for, the hint says where the grants are."""
    deployment = Deployment(upstream.variables("three"), server_reader, tmp_path / "run")
    with pytest.raises(SourceError, match=r"Not enough privileges.* ON sot_torus\.analyzers_alerts") as caught:
        context_of(deployment).source.is_ready(a_day())
    assert not caught.value.transient
    assert "docs/sot.md lists" in caught.value.hint


@pytest.mark.parametrize(
    ("table", "policy"),
    [
        ("analyzers_alerts", "severity != 'high'"),
        ("analyzers_features", "processing_date < '2025-08-02'"),
        ("core_address_labels", "0"),
    ],
)
def test_rows_that_a_policy_hides_are_not_taken_for_absent(
    table: str,
    policy: str,
    own_clickhouse: Callable[..., OwnClickHouse],
    samples: Path,
    tmp_path: Path,
) -> None:
    """A reader who sees a part of a table is refused, by doctor too; one whose policy lets all rows through is not."""
    documented = tuple(grant.replace("sot_production", "sot") for grant in GRANTS)
    users = {
        "part": User(PASSWORD, documented, "readonly", filters={f"sot.{table}": policy}),
        "all": User(PASSWORD, documented, "readonly", filters={f"sot.{table}": "1"}),
    }
    server = own_clickhouse(users=users)
    sot = Sot(server, "sot")
    sot.fill(SnapshotFiles(samples, a_day()))
    part, every = (
        Deployment(sot.variables(SOT_USER=user, SOT_PASSWORD=PASSWORD), ServerReader(server, user), tmp_path / user)
        for user in users
    )
    with pytest.raises(SourceError, match=rf"a row policy hides rows of sot\.{table}") as caught:
        context_of(part).source.is_ready(a_day())
    assert not caught.value.transient
    assert "DROP the row policy" in caught.value.hint
    with pytest.raises(SourceError, match="a row policy hides rows"):
        list(services.check_source(Examination(context_of(part))))
    ingest(every, a_day())
    every.assert_readers_see(SnapshotFiles(samples, a_day()))


def test_a_table_without_rows_is_a_missing_snapshot(
    sot: Sot, clickhouse: ClickHouseServer, database_prefix: str, samples: Path, tmp_path: Path
) -> None:
    """Unless an operator said that it may be empty: then it is, for readers too."""
    deployment = into_server(sot, clickhouse, database_prefix, tmp_path)
    sot.server.http(f"DELETE FROM {sot.database}.analyzers_alerts WHERE processing_date = '2025-08-01'")
    source = context_of(deployment).source
    assert not source.is_ready(a_day())
    assert source.absence(a_day())[0] == "rows of torus/2025-08-01/195 in analyzers_alerts"
    deployment.variables["SOT_MAY_BE_EMPTY"] = "raw_alerts"
    ingest(deployment, a_day())
    assert deployment.rows("raw_alerts", a_day()) == []
    expected = SnapshotFiles(samples, a_day()).expected_rows("raw_features")
    assert multiset(deployment.rows("raw_features", a_day())) == multiset(expected)


def test_another_window_is_another_snapshot(
    sot: Sot, clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """Rows of the same date with another window are not read."""
    table = f"{sot.database}.analyzers_features"
    sot.server.http(f"INSERT INTO {table} SELECT * REPLACE (30 AS window_days) FROM {table} FINAL LIMIT 3")
    deployment = into_server(sot, clickhouse, database_prefix, tmp_path)
    ingest(deployment, a_day())
    sot.assert_readers_see_final(deployment, a_day())


def test_other_types_of_the_same_values_arrive(
    clickhouse: ClickHouseServer, database_prefix: str, samples: Path, tmp_path: Path
) -> None:
    """Both digests are over our types: wider, nullable and dictionary-encoded ones make no difference."""
    sot = Sot(clickhouse, f"{database_prefix}sot", OTHER_TYPES)
    sot.fill(SnapshotFiles(samples, a_day()))
    deployment = into_server(sot, clickhouse, database_prefix, tmp_path)
    ingest(deployment, a_day())
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))
