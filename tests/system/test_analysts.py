"""What analysts find: comments on everything, views of moments and of the newest day, summaries, differences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from pipeline.demo.bucket import Rows
from pipeline.graph.context import Context
from pipeline.operations.rollback import plan_rollback, roll_back
from pipeline.operations.verify import verify_publications
from pipeline.snapshot import Snapshot
from pipeline.tables import SUMMARIES, TABLE_VIEWS, TABLES, Table, schema_sql
from pipeline.warehouse import Warehouse
from pipeline.warehouse.dictionary import comment_of, meanings
from pipeline.warehouse.retire import retire_snapshot
from pipeline.warehouse.schema import ensure_schema
from pipeline.warehouse.shape import OBJECTS
from tests.support import columns
from tests.support.clickhouse import OwnClickHouse
from tests.support.deployment import Deployment, ServerReader, a_day, multiset
from tests.support.inprocess import in_process, ingest
from tests.support.snapshots import Bucket, SnapshotFiles, contract
from tests.support.warehouses import Databases

WEEK = [date(2025, 8, 1) + timedelta(days=after) for after in range(7)]


def comments(warehouse: Warehouse) -> dict[tuple[str, str], str]:
    """Return the comment of every table, view and column of a database."""
    found = warehouse.query(
        """
        SELECT name, '', comment FROM system.tables WHERE database = {name:String}
        UNION ALL
        SELECT table, name, comment FROM system.columns WHERE database = {name:String}
        """,
        name=warehouse.database,
    )
    return {(table, column): comment for table, column, comment in found}


def test_everything_has_a_comment_that_is_the_dictionarys(warehouse: Warehouse) -> None:
    """Every table, view and column that the pipeline made says what it means."""
    found = comments(warehouse)
    assert {name for name, column in found if not column} == set(OBJECTS)
    assert [place for place, comment in found.items() if not comment] == []
    assert found == {(name, column): comment_of(name, column) for name, column in found}


def test_a_database_of_an_earlier_version_gets_views_and_comments(databases: Databases) -> None:
    """Tables without comments are given them by the next run, which then has nothing to write."""
    older = databases.new()
    for name in (*OBJECTS[: -len(TABLE_VIEWS) - len(SUMMARIES)], *(table.name for table in TABLES)):
        older.execute(schema_sql(name))
    assert set(comments(older).values()) == {""}
    ensure_schema(older)
    assert "" not in comments(older).values()
    executed: list[str] = []
    older.execute = lambda statement, **_: executed.append(statement)  # type: ignore[method-assign]
    ensure_schema(older)
    assert executed == []


def test_the_dictionary_has_every_column_that_upstream_writes() -> None:
    """Each of the contract's columns has a meaning, with the type that the table has, and no other column has one."""
    names = [table.name for table in TABLES]
    known = {(row.table, row.column): row.clickhouse_type for row in meanings().values() if row.column}
    assert {place: kind for place, kind in known.items() if place[0] in names} == {
        (name, column): kind for name in names for column, kind in contract()[name].items()
    }


def test_the_page_of_columns_is_the_dictionary() -> None:
    """scripts/docs wrote docs/columns.md."""
    assert columns.PAGE.read_text("utf-8") == columns.written()


@pytest.fixture
def day(server_reader: ServerReader, tmp_path: Path) -> tuple[Deployment, Context, Bucket]:
    """A deployment for one network in this process."""
    made = in_process(tmp_path / "bucket", server_reader, tmp_path / "run")
    return (*made, Bucket(tmp_path / "bucket"))


def seen(deployment: Deployment, view: str, snapshot: Snapshot, moment: str = "") -> list[str]:
    """Return the rows of a snapshot in a view, at a moment if it takes one."""
    source = f"{view}(at = '{moment}')" if moment else view
    return multiset(deployment.rows(source, snapshot))


def as_text(moment: Any) -> str:
    """Return a moment as ClickHouse reads it."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def test_every_past_publication_can_be_seen_at_its_moment(day: tuple[Deployment, Context, Bucket]) -> None:
    """At published_at all four views show that publication, and one microsecond before what was there until then.

    A week: each day once, one of them published again, rolled back, and retired.
    """
    deployment, context, bucket = day
    expected: dict[date, list[dict[str, list[str]]]] = {}
    for written in (*WEEK, WEEK[3]):
        files = bucket.snapshot(day=written, seed=len(expected.get(written, [])))
        ingest(context, files.snapshot)
        shown = {table: multiset(files.expected_rows(table)) for table in contract()}
        expected.setdefault(written, []).append(shown)
    often = Snapshot("torus", WEEK[3], 195)
    roll_back(context, plan_rollback(context, often, None))
    retire_snapshot(context.warehouse("torus"), often, run_id="")
    nothing: dict[str, list[str]] = {table: [] for table in contract()}
    expected[WEEK[3]] += [expected[WEEK[3]][0], nothing]
    for written, versions in expected.items():
        snapshot, before = Snapshot("torus", written, 195), nothing
        publications = deployment.publications(snapshot)
        assert len(publications) == len(versions)
        for publication, rows in zip(publications, versions, strict=True):
            at = publication["published_at"]
            for table in contract():
                view = f"{table}_as_of"
                assert seen(deployment, view, snapshot, as_text(at)) == rows[table]
                assert seen(deployment, view, snapshot, as_text(at - timedelta(microseconds=1))) == before[table]
            before = rows


def test_the_newest_day_and_the_summaries(day: tuple[Deployment, Context, Bucket]) -> None:
    """raw_…_newest shows the newest published day of the configured window; a retired day is none."""
    deployment, context, bucket = day
    for written in WEEK[:3]:
        ingest(context, bucket.snapshot(day=written).snapshot)
    ingest(context, bucket.snapshot(day=WEEK[4], window_days=30).snapshot)
    retire_snapshot(context.warehouse("torus"), Snapshot("torus", WEEK[2], 195), run_id="")
    newest = bucket.snapshot(day=WEEK[1])
    with deployment.reader.held():
        for table in contract():
            query = f"SELECT DISTINCT processing_date, window_days FROM {{db}}.{table}_newest"
            assert deployment.query("torus", query) == [(WEEK[1], 195)]
            assert seen(deployment, f"{table}_newest", newest.snapshot) == multiset(newest.expected_rows(table))
        states = deployment.query(
            "torus",
            "SELECT processing_date, window_days, state, features, publications FROM {db}.sot_snapshots "
            "ORDER BY window_days, processing_date",
        )
        fresh = deployment.query(
            "torus",
            "SELECT window_days, processing_date, published_dates, age_hours > 0 FROM {db}.sot_freshness "
            "ORDER BY window_days",
        )
    count = len(newest.expected_rows("raw_features"))
    assert states == [
        (WEEK[4], 30, "published", count, 1),
        (WEEK[0], 195, "published", count, 1),
        (WEEK[1], 195, "published", count, 1),
        (WEEK[2], 195, "retired", 0, 2),
    ]
    assert fresh == [(30, WEEK[4], 1, 1), (195, WEEK[1], 2, 1)]


def test_one_partition_is_read(server_reader: ServerReader, tmp_path: Path) -> None:
    """Of a week's partitions a query over any view of a table reads that of the date that it names."""
    deployment, context = in_process(tmp_path / "bucket", server_reader, tmp_path / "run")
    bucket = Bucket(tmp_path / "bucket")
    for written in WEEK:
        ingest(context, bucket.snapshot(day=written).snapshot)
    moment = as_text(deployment.publications(Snapshot("torus", WEEK[6], 195))[-1]["published_at"])
    database = server_reader.prefix + "torus"
    for name, (table, _) in TABLE_VIEWS.items():
        source = f"{name}(at = '{moment}')" if name.endswith("_as_of") else name
        where = f"processing_date = '{WEEK[6]}' AND window_days = 195"
        plan = server_reader.server.http(f"EXPLAIN indexes = 1 SELECT * FROM {database}.{source} WHERE {where}")
        assert "Parts: 1/7" in plan.partition(f"({database}.{table.loads})")[2], plan


def test_verify_is_content_after_an_upgrade(server_reader: ServerReader, tmp_path: Path) -> None:
    """Comments and views that are added change nothing that verify looks at."""
    _, context = in_process(tmp_path / "bucket", server_reader, tmp_path / "run")
    ingest(context, Bucket(tmp_path / "bucket").snapshot().snapshot)
    warehouse = context.warehouse("torus")
    for table in TABLES:
        warehouse.execute(f"ALTER TABLE {{database}}.{table.loads} MODIFY COMMENT ''")
    ensure_schema(warehouse)
    found = list(verify_publications(context, ["torus"], a_day().processing_date, a_day().processing_date, 195))
    assert [each.findings for each in found] == [[]]


@pytest.mark.parametrize("is_one_day", [False, True], ids=["two days", "two publications"])
def test_a_difference_is_that_of_the_files(server_reader: ServerReader, tmp_path: Path, *, is_one_day: bool) -> None:
    """Rows added, removed and changed, columns and movements are what DuckDB computes of the two snapshots' files."""
    deployment, context = in_process(tmp_path / "first", server_reader, tmp_path / "run")
    before = Bucket(tmp_path / "first").snapshot(day=WEEK[0], rows=Rows(50, 30, 60, 40))  # many clusters are alike
    ingest(context, before.snapshot)
    deployment, context = in_process(tmp_path / "second", server_reader, tmp_path / "run")
    later = WEEK[0] if is_one_day else WEEK[1]
    after = Bucket(tmp_path / "second").snapshot(day=later, rows=Rows(150, 50, 70, 40), seed=int(is_one_day))
    ingest(context, after.snapshot)
    days = dict.fromkeys((WEEK[0], later))
    result = deployment.command("sot-ingest", "diff", "--network", "torus", *dates(*days), "--json")
    assert result.exit_code == 0, result.stderr
    tables = json.loads(result.stdout)["tables"]
    assert set(tables) == set(contract())
    for table in TABLES:
        assert summary(tables[table.name]) == computed(table, before, after, is_one_day=is_one_day), table.name
    shown = deployment.command("sot-ingest", "diff", "--network", "torus", *dates(*days)).stdout
    assert "total_volume_usd moved by" in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--date", "2025-08-01"], "was published once"),
        (["--date", "2025-08-01", "--date", "2025-08-02"], "is not published"),
        (["--date", "2025-08-01", "--publication", "0"], "has no publication 0"),
        (["--date", "2025-08-01", "--date", "2025-08-01", "--by", "severity"], "is not a column of numbers"),
    ],
)
def test_what_cannot_be_compared_is_a_mistake(
    day: tuple[Deployment, Context, Bucket], options: list[str], expected: str
) -> None:
    """Exit code 2, and one line that says what there is."""
    deployment, context, bucket = day
    ingest(context, bucket.snapshot().snapshot)
    result = deployment.command("sot-ingest", "diff", "--network", "torus", *options)
    assert (result.exit_code, expected in result.stderr) == (2, True), result.stderr


def test_what_gc_removed_is_not_compared(day: tuple[Deployment, Context, Bucket]) -> None:
    """Exit code 2 for rows that gc removed, and for a day that it retired: readers see nothing of it."""
    deployment, context, bucket = day
    for seed in range(2):
        ingest(context, bucket.snapshot(seed=seed).snapshot)
    options = ["sot-ingest", "diff", "--network", "torus", "--date", "2025-08-01"]
    assert deployment.command(*options).exit_code == 0
    gone, kept = deployment.publications(a_day())
    assert deployment.command("sot-ingest", "gc", "--keep-versions", "1", "--yes").exit_code == 0
    result = deployment.command(*options)
    expected = f"gc removed the rows of publication {gone['publication_id']}"
    assert (result.exit_code, expected in result.stderr) == (2, True), result.stderr
    retire_snapshot(context.warehouse("torus"), a_day(), run_id="")
    for more in ([], ["--date", "2025-08-02"], ["--publication", kept["publication_id"]]):
        result = deployment.command(*options, *more)
        assert (result.exit_code, "was retired: readers see no row of it" in result.stderr) == (2, True)


def dates(*days: date) -> list[str]:
    """Return the options that name days."""
    return [word for each in days for word in ("--date", each.isoformat())]


def summary(changes: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared of a table's changes."""
    movements = [(each["after"] - each["before"]) for each in changes["movements"]]
    return {**{name: changes[name] for name in ("added", "removed", "changed", "columns")}, "largest": movements[:1]}


def rows(query: str) -> list[tuple[Any, ...]]:
    """Return what DuckDB answers."""
    return duckdb.execute(query).fetchall()


def computed(table: Table, before: SnapshotFiles, after: SnapshotFiles, *, is_one_day: bool) -> dict[str, Any]:
    """Compare two files with DuckDB; things that are alike on another date, one with one, in the order of their key."""
    identity = table.key if is_one_day else table.identity or table.key
    given = set(pq.read_schema(before.path(table.name)).names) - {"network"}
    left_out = {*identity, *table.snapshot_columns, *(() if is_one_day else table.dated_columns)}
    columns = [column.name for column in table.file_columns if column.name in given and column.name not in left_out]
    known_by = [name for name in identity if name in given]
    place = f"row_number() OVER (PARTITION BY {', '.join(known_by)} ORDER BY {table.key[-1]}) AS place"
    join = " AND ".join(f"o.{name} IS NOT DISTINCT FROM n.{name}" for name in (*known_by, "place"))
    differ = {name: f"o.{name} IS DISTINCT FROM n.{name}" for name in columns}
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in differ.values())
    moved = f"n.{table.amount}::DOUBLE - o.{table.amount}::DOUBLE" if table.amount else "0"
    old, new = (f"(SELECT *, {place} FROM '{files.path(table.name)}')" for files in (before, after))
    both = f"FROM {old} o JOIN {new} n ON {join}"
    ((changed, *by_column),) = rows(f"SELECT count(*) FILTER ({' OR '.join(differ.values())}), {counts} {both}")
    ((added,),) = rows(f"SELECT count(*) FROM {new} n ANTI JOIN {old} o ON {join}")
    ((removed,),) = rows(f"SELECT count(*) FROM {old} o ANTI JOIN {new} n ON {join}")
    largest = rows(f"SELECT {moved} AS moved {both} ORDER BY abs(moved) DESC LIMIT 1") if table.amount else []
    return {
        "added": added,
        "removed": removed,
        "changed": changed,
        "columns": {name: count for name, count in zip(columns, by_column, strict=True) if count},
        "largest": [pytest.approx(moved) for (moved,) in largest],
    }


ROOT = Path(__file__).parents[2]


def test_the_typical_questions_are_answered(
    own_clickhouse: Callable[..., OwnClickHouse], samples: Path, tmp_path: Path
) -> None:
    """Each query of docs/queries.md and each statement of docs/other-tools.md runs on upstream's samples of two days.

    Those about what the samples' random values lack (patterns in evidence, several alerts of an address) find no row.
    What readers saw at a moment does not depend on the time zone of who asks.
    """
    server = own_clickhouse()
    _, context = in_process(samples, ServerReader(server, "", ("torus",)), tmp_path / "run")
    for each in WEEK[:2]:
        ingest(context, Snapshot("torus", each, 195))
    empty = []
    for page in ("queries.md", "other-tools.md"):
        for statement in re.findall(
            r"^```sql\n(.*?)^```$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            answer = server.http(statement)
            if not answer.strip() and not statement.startswith("CREATE"):
                empty.append(statement)
            if "_as_of(" in statement:
                west = server.http(f"{statement} SETTINGS session_timezone = 'America/New_York'")
                assert sorted(west.splitlines()) == sorted(answer.splitlines()), statement
    assert [query for query in empty if "pattern_id" not in query and "HAVING length(kinds)" not in query] == []
