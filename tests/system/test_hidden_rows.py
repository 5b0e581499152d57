"""What a user does not see is not taken for absent: row policies, filters, removed publications, and a TTL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import WarehouseError
from pipeline.graph import steps
from pipeline.graph.context import Context
from pipeline.operations import gc
from pipeline.operations.gc import Policy
from pipeline.operations.verify import verify_publications
from pipeline.warehouse.publications import publications_of
from pipeline.warehouse.publish import publish_after
from pipeline.warehouse.schema import check_schema
from pipeline.warehouse.whole import hidden_rows
from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import Deployment, ServerReader, in_directory
from tests.support.inprocess import in_process, ingest
from tests.support.snapshots import Bucket, SnapshotFiles, contract

pytestmark = pytest.mark.usefixtures("audited")

PASSWORD = "secret"
DECIDED_BY = ("sot_publications", "sot_table_loads", "raw_features_loads")


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def server(own_clickhouse: Callable[..., OwnClickHouse]) -> OwnClickHouse:
    """A server with a user for each table, from whom all but one of its rows are hidden."""
    users = {
        table: User(PASSWORD, filters={f"own_torus.{table}": "processing_date < toDate(0)"}) for table in DECIDED_BY
    }
    filtered = {"additional_table_filters": "{'own_torus.sot_publications': '0'}"}
    fixed = {**filtered, "additional_table_filters const": ""}
    users |= {"filtered": User(PASSWORD, profile="filtered"), "fixed": User(PASSWORD, profile="fixed")}
    return own_clickhouse(users=users, profiles={"filtered": filtered, "fixed": fixed})


def run_as(files: SnapshotFiles, server: OwnClickHouse, directory: Path, user: str) -> tuple[Deployment, Context]:
    """Return what a user of the server runs."""
    seen_by = ClickHouseServer(server.host, server.port, server.http_port, user, PASSWORD)
    return in_process(files.root, ServerReader(seen_by, "own_"), directory / user)


def published_twice(files: SnapshotFiles, server: OwnClickHouse, directory: Path) -> Context:
    """Return the context of a user who sees all, after two publications."""
    _, context = in_process(files.root, ServerReader(server, "own_"), directory / "all")
    ingest(context, files.snapshot)
    steps.forget(context, files.snapshot, tuple(contract()))
    ingest(context, files.snapshot)
    return context


def rows(server: OwnClickHouse) -> str:
    """Return how many rows each table has, but for that of claims, which come and go."""
    return server.http(
        "SELECT name, total_rows FROM system.tables "
        "WHERE database = 'own_torus' AND total_rows > 0 AND name != 'sot_claims' ORDER BY name"
    )


KEEP_ONE = Policy(1, None, datetime.now(UTC))


@pytest.mark.parametrize("user", DECIDED_BY)
def test_nothing_is_decided_by_rows_that_are_hidden(
    files: SnapshotFiles, server: OwnClickHouse, tmp_path: Path, user: str
) -> None:
    """With a row policy on a table, gc, verify, a rollback, a retirement and a run say so, and change nothing."""
    newest = publications_of(published_twice(files, server, tmp_path).warehouse("torus"), files.snapshot)[-1]
    before = rows(server)
    deployment, context = run_as(files, server, tmp_path, user)
    warehouse, day = context.warehouse("torus"), files.snapshot.processing_date
    acts: list[Callable[[], object]] = [
        lambda: gc.find(context, KEEP_ONE),
        lambda: gc.remove_garbage(context, KEEP_ONE, gc.Garbage([], [], [files.snapshot])),
        lambda: list(verify_publications(context, ["torus"], day, day, 195)),
        lambda: publish_after(warehouse, files.snapshot, newest, after=newest),
        lambda: check_schema(warehouse),
        lambda: ingest(context, files.snapshot),
    ]
    for act in acts:
        with pytest.raises(WarehouseError, match=f"0 of [0-9]+ rows of {user} are seen: a row policy") as caught:
            act()
        assert "row policy" in caught.value.hint
    seen = deployment.command("sot-ingest", "status", "--date", str(day), "--days", "1")
    assert seen.exit_code != 0
    assert f"rows of {user} are seen" in seen.stderr
    assert rows(server) == before


def test_a_filter_in_the_profile_is_overridden_or_named(
    files: SnapshotFiles, server: OwnClickHouse, tmp_path: Path
) -> None:
    """gc sees all publications all the same; where the profile lets nobody change the filter, it is an error."""
    published_twice(files, server, tmp_path)
    found = gc.find(run_as(files, server, tmp_path, "filtered")[1], KEEP_ONE)
    assert {each.why for each in found.loads} == {"superseded"}
    assert len(found.loads) == 4
    with pytest.raises(WarehouseError, match="452: Setting additional_table_filters should not be changed") as caught:
        gc.find(run_as(files, server, tmp_path, "fixed")[1], KEEP_ONE)
    assert "CLICKHOUSE_USER" in caught.value.hint


def test_a_load_is_kept_whose_publication_is_gone(
    files: SnapshotFiles, server_reader: ServerReader, tmp_path: Path
) -> None:
    """sot_steps says that it was published; the publication was removed from the table: gc and verify refuse."""
    deployment = Deployment(in_directory(files.root), server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})
    assert deployment.run(files.snapshot).exit_code == 0
    database = f"{server_reader.prefix}torus"
    server_reader.server.http(f"TRUNCATE TABLE {database}.sot_publications")
    gone = deployment.command("sot-ingest", "gc", "--keep-days", "30", "--yes")
    assert gone.exit_code != 0
    assert f"of {files.snapshot}, which sot_steps says was published" in gone.stderr
    verified = deployment.command("sot-ingest", "verify", "--date", "2025-08-01", "--network", "torus")
    assert verified.exit_code != 0
    assert "sot_steps says was published" in verified.stderr
    assert server_reader.server.http(f"SELECT count() FROM {database}.raw_features_loads") == "50\n"


def test_rows_that_delete_has_marked_are_not_hidden(
    files: SnapshotFiles, server_reader: ServerReader, tmp_path: Path
) -> None:
    """An operator's DELETE leaves rows in parts until they are merged; that is no row policy."""
    _, context = in_process(files.root, server_reader, tmp_path / "run")
    ingest(context, files.snapshot)
    warehouse = context.warehouse("torus")
    warehouse.execute("DELETE FROM {database}.sot_table_loads WHERE state = 'started'")
    assert list(hidden_rows(warehouse)) == []


@pytest.mark.parametrize(
    ("table", "statement", "undo"),
    [
        ("raw_alerts_loads", "MODIFY TTL created_at + INTERVAL 1 YEAR", "REMOVE TTL"),
        ("raw_alerts_loads", "MODIFY TTL created_at + INTERVAL 1 DAY", "REMOVE TTL"),
        (
            "sot_publications",
            "MODIFY TTL toDateTime(published_at) + INTERVAL 400 DAY DELETE WHERE action != ''",
            "REMOVE TTL",
        ),
        ("sot_table_loads", "MODIFY TTL toDateTime(recorded_at) + INTERVAL 90 DAY", "REMOVE TTL"),
        (
            "raw_alerts_loads",
            "MODIFY COLUMN description String COMMENT 'has a TTL' TTL created_at + INTERVAL 3 DAY",
            "MODIFY COLUMN description REMOVE TTL",
        ),
    ],
)
def test_a_ttl_is_found(
    files: SnapshotFiles, server_reader: ServerReader, tmp_path: Path, table: str, statement: str, undo: str
) -> None:
    """The run says which table's rows expire, and the statement that ends it; with that, the run goes on."""
    _, context = in_process(files.root, server_reader, tmp_path / "run")
    ingest(context, files.snapshot)
    warehouse = context.warehouse("torus")
    warehouse.execute(f"ALTER TABLE {{database}}.{table} {statement} SETTINGS materialize_ttl_after_modify = 0")
    with pytest.raises(WarehouseError) as caught:
        check_schema(warehouse)
    advice = f"ALTER TABLE {warehouse.database}.{table} {undo}"
    assert f"rows of {table} expire: {advice}" in str(caught.value)
    warehouse.execute(advice)
    check_schema(warehouse)


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("raw_alerts_loads", "MODIFY TTL created_at + INTERVAL 3 DAY RECOMPRESS CODEC(ZSTD(3))"),
        ("sot_steps", "MODIFY TTL toDateTime(recorded_at) + INTERVAL 90 DAY"),
        ("raw_alerts_loads", "MODIFY COLUMN description COMMENT 'TTL here'"),
    ],
)
def test_a_ttl_that_deletes_nothing_is_an_administrators_own(
    files: SnapshotFiles, server_reader: ServerReader, tmp_path: Path, table: str, statement: str
) -> None:
    """Rows that move or are packed are all there; the log of steps may be shortened."""
    _, context = in_process(files.root, server_reader, tmp_path / "run")
    ingest(context, files.snapshot)
    context.warehouse("torus").execute(f"ALTER TABLE {{database}}.{table} {statement}")
    check_schema(context.warehouse("torus"))
