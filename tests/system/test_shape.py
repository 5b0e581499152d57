"""A database that is not in the pipeline's shape, a server that cannot be reached, a user who may not."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from pipeline.errors import WarehouseError
from pipeline.tables import BY_NAME, schema_sql
from pipeline.warehouse import Warehouse
from pipeline.warehouse.publications import newest_publication
from pipeline.warehouse.schema import ensure_schema
from pipeline.warehouse.shape import OBJECTS
from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User, free_ports
from tests.support.deployment import HASTE, Deployment, ServerReader, a_day, in_directory
from tests.support.snapshots import Bucket, SnapshotFiles
from tests.support.sot import Gate


def shape(warehouse: Warehouse) -> list[tuple[object, ...]]:
    """Return all that is in the database, as it would be created, and which one it is."""
    query = """
        SELECT name, create_table_query, toString(uuid)
        FROM system.tables
        WHERE database = {name:String}
        ORDER BY name
    """
    return warehouse.query(query, name=warehouse.database)


def edited(name: str, old: str, new: str) -> str:
    """Return the statement that creates a table, with something else in it."""
    statement = schema_sql(name)
    assert old in statement
    return statement.replace(old, new)


LOADS = "{database}.raw_alerts_loads"
OTHER_SHAPES = {
    "missing column": (
        [f"ALTER TABLE {LOADS} DROP COLUMN description"],
        "raw_alerts_loads.description is missing, expected String",
    ),
    "another type": (
        [f"ALTER TABLE {LOADS} MODIFY COLUMN volume_usd Float64"],
        "raw_alerts_loads.volume_usd is Float64, expected Decimal(38, 18)",
    ),
    "nullable": (
        [f"ALTER TABLE {LOADS} MODIFY COLUMN volume_usd Nullable(Decimal(38, 18))"],
        "raw_alerts_loads.volume_usd is Nullable(Decimal(38, 18)), expected Decimal(38, 18)",
    ),
    "extra column": (
        [f"ALTER TABLE {LOADS} ADD COLUMN risk Float64"],
        "raw_alerts_loads.risk is not expected",
    ),
    "another order": (
        [f"ALTER TABLE {LOADS} MODIFY COLUMN created_at DateTime FIRST"],
        "raw_alerts_loads has its columns in another order",
    ),
    "another partition key": (
        [f"DROP TABLE {LOADS} SYNC", edited("raw_alerts_loads", "window_days, load_id)\nORDER", "window_days)\nORDER")],
        "raw_alerts_loads is partitioned by '(processing_date, window_days)', "
        "expected '(processing_date, window_days, load_id)'",
    ),
    "an engine that merges rows": (
        [f"DROP TABLE {LOADS} SYNC", edited("raw_alerts_loads", "= MergeTree", "= ReplacingMergeTree")],
        "raw_alerts_loads has engine ReplacingMergeTree, expected MergeTree",
    ),
    "an engine that keeps nothing": (
        [f"DROP TABLE {LOADS} SYNC", f"CREATE TABLE {LOADS} (alert_id String) ENGINE = Null"],
        "raw_alerts_loads has engine Null, expected MergeTree",
    ),
    "a table for a view": (
        [
            "DROP VIEW {database}.raw_features SYNC",
            edited("raw_features_loads", "raw_features_loads", "raw_features"),
        ],
        "raw_features is a table with engine MergeTree, expected a view",
    ),
    "a view for a table": (
        ["DROP TABLE {database}.sot_publications SYNC", "CREATE VIEW {database}.sot_publications AS SELECT 1 AS one"],
        "sot_publications has engine View, expected MergeTree",
    ),
    "a view over something else": (
        [
            "CREATE TABLE {database}.other_publications AS {database}.sot_publications",
            edited("raw_clusters", "CREATE VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW").replace("sot_", "other_"),
        ],
        "raw_clusters is another view than this version makes",
    ),
    "a view of other columns": (
        [
            edited("raw_clusters", "CREATE VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW")
            .replace(" newest.pattern_id AS pattern_id,", "")
            .replace(" pattern_id,", "")
        ],
        "raw_clusters.pattern_id is missing, expected String",
    ),
    "publications of an earlier version": (
        [
            "ALTER TABLE {database}.sot_publications DROP COLUMN publication_id, DROP COLUMN run_id",
            "ALTER TABLE {database}.sot_publications RESET SETTING non_replicated_deduplication_window",
        ],
        "sot_publications.publication_id is missing, expected UUID",
    ),
    "another ledger": (
        ["ALTER TABLE {database}.sot_table_loads DROP COLUMN error"],
        "sot_table_loads.error is missing, expected String",
    ),
}


@pytest.mark.parametrize(("statements", "difference"), OTHER_SHAPES.values(), ids=OTHER_SHAPES)
def test_another_shape_is_shown_and_left_alone(warehouse: Warehouse, statements: list[str], difference: str) -> None:
    """The error says which table differs and how; nothing is changed, and nothing that is missing is created."""
    for statement in [*statements, "DROP VIEW {database}.raw_address_labels SYNC"]:
        warehouse.execute(statement)
    before = shape(warehouse)
    with pytest.raises(WarehouseError) as refused:
        ensure_schema(warehouse)
    assert difference in str(refused.value)
    assert warehouse.uri in str(refused.value)
    assert "nothing was changed" in refused.value.hint
    assert shape(warehouse) == before


def test_the_statements_that_are_shown_make_an_earlier_version_this_one(warehouse: Warehouse) -> None:
    """Reading what is published shows them too: a run reads before it writes."""
    before = shape(warehouse)
    for statement in OTHER_SHAPES["publications of an earlier version"][0]:
        warehouse.execute(statement)
    with pytest.raises(WarehouseError) as refused:
        newest_publication(warehouse, a_day())
    statements = re.findall(r"ALTER TABLE .*?(?=; |$)", str(refused.value))
    assert len(statements) == 2
    for statement in statements:
        warehouse.execute(statement)
    ensure_schema(warehouse)
    assert newest_publication(warehouse, a_day()) is None
    assert [(row[0], row[2]) for row in shape(warehouse)] == [(row[0], row[2]) for row in before]


def test_all_differences_are_shown_at_once(warehouse: Warehouse) -> None:
    """An operator does not have to run again to learn of the next."""
    warehouse.execute(f"ALTER TABLE {LOADS} DROP COLUMN description")
    warehouse.execute("ALTER TABLE {database}.raw_features_loads MODIFY COLUMN kcore UInt64")
    with pytest.raises(WarehouseError, match=r"description is missing.*kcore is UInt64, expected UInt32"):
        ensure_schema(warehouse)


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_missing_is_created(warehouse: Warehouse, name: str) -> None:
    """A run that was cut short in between goes on; the rest stays as it is."""
    before = {row[0]: row for row in shape(warehouse)}
    kind = "VIEW" if name in BY_NAME else "TABLE"
    warehouse.execute(f"DROP {kind} {{database}}.{name} SYNC")
    ensure_schema(warehouse)
    after = {row[0]: row for row in shape(warehouse)}
    assert after.pop(name)[:2] == before.pop(name)[:2]
    assert after == before


def test_a_view_for_readers_stops_no_load(server_reader: ServerReader, files: SnapshotFiles, tmp_path: Path) -> None:
    """Made with another window: a warning names it, and the day is loaded."""
    before, after = (
        Deployment(in_directory(files.root), server_reader, tmp_path / days, {"INGESTION_WINDOW_DAYS": days})
        for days in ("195", "30")
    )
    assert before.run(files.snapshot).exit_code == 0
    result = after.rerun(files.snapshot)
    assert result.exit_code == 0, result.stderr
    warnings = [event["message"] for event in result.log() if event["level"] == "WARNING"]
    assert warnings
    assert all("raw_alerts_newest" in message and "raw_alerts_as_of" not in message for message in warnings)


def test_a_load_balancer_is_refused(
    own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path
) -> None:
    """Two servers behind one address: both are named, no table is made; doctor says it, too."""
    servers = [own_clickhouse(users={"both": User("same")}) for _ in range(2)]
    with Balancer(servers).open() as balancer:
        at_balancer = deployment(
            files,
            servers[0],
            tmp_path,
            CLICKHOUSE_PORT=str(balancer.port),
            CLICKHOUSE_USER="both",
            CLICKHOUSE_PASSWORD="same",
            INGESTION_NETWORKS="torus",
        )
        result = at_balancer.run(files.snapshot)
        doctor = at_balancer.command("sot-ingest", "doctor")
    assert result.exit_code == 30
    for error in result.errors():
        assert error["step"] == "LoadTable"
        assert "several servers answer at this address" in error["message"]
        assert "load balancer" in error["hint"]
    assert doctor.exit_code == 2
    assert "several servers answer at this address" in doctor.stdout or "are of two servers" in doctor.stdout
    for server in servers:
        made = server.http("SELECT name FROM system.tables WHERE database = 'own_torus' AND name != 'sot_steps'")
        assert made == "", made


@dataclass
class Balancer:
    """A port that hands each connection to the next of several servers."""

    servers: Sequence[ClickHouseServer]
    port: int = 0

    @contextmanager
    def open(self) -> Iterator[Balancer]:
        """Listen while the block runs."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            yield self

    def _serve(self, listener: socket.socket) -> None:
        for server in cycle(self.servers):
            try:
                client, _ = listener.accept()
            except OSError:  # the test is over
                return
            backend = socket.create_connection((server.host, server.port))
            for ends in ((client, backend), (backend, client)):
                threading.Thread(target=Gate._pump, args=(*ends, lambda _: None), daemon=True).start()


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A snapshot of which one file has rows: one request over HTTP."""
    made = Bucket(tmp_path / "bucket").snapshot()
    for table in ("raw_alerts", "raw_clusters", "raw_address_labels"):
        made.without_rows(table)
    return made


def deployment(files: SnapshotFiles, server: ClickHouseServer, directory: Path, **variables: str) -> Deployment:
    """Return a deployment on a server, with some variables another."""
    return Deployment(in_directory(files.root), ServerReader(server, "own_"), directory / "run", {**HASTE, **variables})


def test_a_run_shows_another_shape(
    own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path
) -> None:
    """Exit 30; every table's step says the difference, and nothing is made there but the log that says so."""
    server = own_clickhouse()
    server.execute("CREATE DATABASE own_torus")
    server.execute("CREATE TABLE own_torus.raw_alerts (alert_id String) ENGINE = MergeTree ORDER BY alert_id")
    result = deployment(files, server, tmp_path).run(files.snapshot)
    assert result.exit_code == 30
    assert {error["step"] for error in result.errors()} == {"LoadTable"}
    for error in result.errors():
        assert "raw_alerts is a table with engine MergeTree, expected a view" in error["message"]
        assert "_CLICKHOUSE_DATABASE" in error["hint"]
    made = server.execute("SELECT name FROM system.tables WHERE database = 'own_torus' ORDER BY name")
    assert made == [("raw_alerts",), ("sot_steps",)]


def test_a_closed_http_port(own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path) -> None:
    """Exit 30 after some tries; the message names the port; with the right one the run goes on and loads one table."""
    server, closed = own_clickhouse(), free_ports(1)[0]
    wrong = deployment(files, server, tmp_path, CLICKHOUSE_HTTP_PORT=str(closed))
    result = wrong.run(files.snapshot)
    assert result.exit_code == 30
    (error,) = result.errors()
    assert (error["step"], error["table"]) == ("LoadTable", "raw_features")
    assert f"clickhouse at 127.0.0.1:{closed}: ConnectionRefusedError" in error["message"]
    assert "see that ClickHouse runs and can be reached" in error["hint"]
    result = deployment(files, server, tmp_path).run(files.snapshot)
    assert result.exit_code == 0
    assert [event["table"] for event in result.events("Loaded table")] == ["raw_features"]


def test_an_http_port_that_is_something_else(
    own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path
) -> None:
    """The native port answers with 400 and a hint of its own: exit 30 at once."""
    server = own_clickhouse()
    result = deployment(files, server, tmp_path, CLICKHOUSE_HTTP_PORT=str(server.port)).run(files.snapshot)
    assert result.exit_code == 30
    (error,) = result.errors()
    assert f"{server.port}" in error["message"]
    assert "CLICKHOUSE_HTTP_PORT" in error["hint"]


def test_a_server_that_is_down(
    own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path
) -> None:
    """Exit 35: nothing could be told; nothing was done; when it is back the run succeeds."""
    server = own_clickhouse()
    server.stop()
    result = deployment(files, server, tmp_path).run(files.snapshot)
    assert result.exit_code == 35
    (error,) = result.errors()
    assert error["step"] == "IngestSnapshot"
    assert f"clickhouse at 127.0.0.1:{server.port}: NetworkError: Code: 210. Connection refused" in error["message"]
    assert "see that ClickHouse runs and can be reached" in error["hint"]
    assert result.events("Downloaded manifest") == []
    server.start()
    assert deployment(files, server, tmp_path).run(files.snapshot).exit_code == 0


def test_a_wrong_password(own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path) -> None:
    """Exit 35 at once, without the password; the hint names the variables."""
    run = deployment(files, own_clickhouse(), tmp_path, CLICKHOUSE_PASSWORD="wr0ng-secret")
    day = ["--processing-date", files.snapshot.processing_date.isoformat(), "--window-days", "195"]
    # Not IngestDaily, which asks for all of its networks first: this engine ends at the second login that it refuses.
    graph = ["luigi", "--module", "pipeline.tasks", "IngestSnapshot", "--network", files.snapshot.network]
    result = run.command(*graph, *day, "--local-scheduler")
    assert result.exit_code == 35
    (error,) = result.errors()
    assert "516" in error["message"]
    assert "CLICKHOUSE_PASSWORD" in error["hint"]
    assert "wr0ng-secret" not in result.stderr + result.stdout


def test_a_user_who_may_only_read(
    own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path
) -> None:
    """Exit 30; the message says which grant is missing; a user with the pipeline's grants goes on from there."""
    reader = User("r3ad", grants=("GRANT SELECT ON *.*",))
    server = own_clickhouse(users={"reader": reader})
    user = {"CLICKHOUSE_USER": "reader", "CLICKHOUSE_PASSWORD": reader.password}
    result = deployment(files, server, tmp_path, **user).run(files.snapshot)
    assert result.exit_code == 30
    for error in result.errors():
        assert error["step"] == "LoadTable"
        assert "Not enough privileges" in error["message"]
        assert "CREATE DATABASE" in error["message"]
        assert "grant" in error["hint"]
    assert deployment(files, server, tmp_path).run(files.snapshot).exit_code == 0


def test_a_user_who_may_nothing(
    own_clickhouse: Callable[..., OwnClickHouse], files: SnapshotFiles, tmp_path: Path
) -> None:
    """Exit 35: not even what is published can be told."""
    nobody = User("n0ne", grants=("GRANT SELECT ON elsewhere.*",))
    server = own_clickhouse(users={"nobody": nobody})
    assert deployment(files, server, tmp_path).run(files.snapshot).exit_code == 0
    user = {"CLICKHOUSE_USER": "nobody", "CLICKHOUSE_PASSWORD": nobody.password}
    result = deployment(files, server, tmp_path, **user).run(files.snapshot)
    assert result.exit_code == 35
    (error,) = result.errors()
    assert "Not enough privileges" in error["message"]
    assert "grant" in error["hint"]
