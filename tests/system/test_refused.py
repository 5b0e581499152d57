"""What is refused, end to end, into both warehouses: a valid snapshot with one thing wrong.

All cases share one published snapshot of each warehouse: a refused one changes nothing that readers see. The exact
edges of what a column can hold are in test_values.py.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RowCountError
from pipeline.graph import steps
from pipeline.graph.context import Context
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, TABLES
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, EmbeddedReader, Reader, Result, ServerReader, in_directory, multiset
from tests.support.inprocess import in_process, ingest, refused
from tests.support.snapshots import Bucket, SnapshotFiles, contract

ALERTS, FEATURES, CLUSTERS, LABELS = "raw_alerts", "raw_features", "raw_clusters", "raw_address_labels"
MANIFEST, FILE, FILES, LOAD = "ValidateManifest", "DownloadFile", "ValidateFile", "LoadTable"

Break = Callable[[SnapshotFiles], object]


@dataclass(frozen=True)
class Case:
    """One thing wrong, and what the one line about it says."""

    id: str
    step: str
    file: str
    says: tuple[str, ...]  #: what was found and what was expected
    break_: Break
    table: str | None = None  #: where the step is one for a table
    hint: str = "ask upstream to publish the snapshot again"


def of_manifest(id_: str, edit: Callable[[dict[str, Any]], object], *says: str, hint: str = "ask upstream") -> Case:
    """Return a case of a manifest that was edited."""
    return Case(id_, MANIFEST, "META.json", says, lambda files: files.edit_manifest(edit), hint=hint)


def of_columns(id_: str, table: str, break_: Break, *says: str, hint: str = "ask upstream") -> Case:
    """Return a case that the validation of the file finds."""
    return Case(id_, FILES, f"{table.removeprefix('raw_')}.parquet", says, break_, table, hint=hint)


def of_rows(id_: str, table: str, break_: Break, *says: str, hint: str = "ask upstream to publish") -> Case:
    """Return a case that the load finds."""
    return Case(id_, LOAD, f"{table.removeprefix('raw_')}.parquet", says, break_, table, hint=hint)


def of_value(table: str, column: str, value: object, *says: str, type_: pa.DataType | None = None) -> Case:
    """Return a case of one value in row 3 that does not fit."""

    def break_(files: SnapshotFiles) -> None:
        files.set_value(table, column, 3, value, type_)

    return of_rows(f"{column} {value!r:.30}", table, break_, f"{column} is ", "in row 3 (the first is 0)", *says)


def corrupt_page(files: SnapshotFiles, table: str, column: str) -> None:
    """Damage a column's data page; footer, digest and count stay right."""
    path = files.path(table)
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(index) for index in range(group.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)
    data = bytearray(path.read_bytes())
    end = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size
    data[chunk.data_page_offset : end] = bytes(end - chunk.data_page_offset)
    files.overwrite(table, bytes(data), digest=True)


def twice(files: SnapshotFiles) -> None:
    """Write two columns of one name."""
    table = files.table(ALERTS)
    files.replace_table(ALERTS, table.append_column("severity", table["severity"]))


def legacy(files: SnapshotFiles) -> None:
    """Write a manifest that has nothing better than MD5."""
    files.as_legacy_dialect()


def unchecked(files: SnapshotFiles) -> None:
    """List a file without a checksum."""
    files.as_list_dialect(facts=True)
    files.edit_manifest(lambda meta: meta["files"][0].pop("checksum"))


def sized(files: SnapshotFiles) -> None:
    """List a file with a size that it does not have."""
    files.as_list_dialect(facts=True)
    files.edit_manifest(
        lambda meta: [entry.update(size=12345) for entry in meta["files"] if "alerts" in entry["filename"]]
    )


def truncated(files: SnapshotFiles) -> None:
    """Cut a file before its footer; the manifest has the digest of what is left."""
    files.overwrite(ALERTS, files.path(ALERTS).read_bytes()[:5000], digest=True)


def null_list(files: SnapshotFiles) -> None:
    """Set a list to NULL, which ClickHouse would read as an empty one."""
    files.set_value(FEATURES, "hourly_activity", 3, None)


def amount(text: str) -> Break:
    """Write all amounts as text, and one of them like this."""

    def break_(files: SnapshotFiles) -> None:
        values = [format(value, "f") for value in files.table(CLUSTERS)["total_volume_usd"].to_pylist()]
        values[3] = text
        files.set_column(CLUSTERS, "total_volume_usd", pa.array(values))

    return break_


def another_date(type_: pa.DataType, value: object) -> Break:
    """Give all rows the right date in some type, and one another."""

    def break_(files: SnapshotFiles) -> None:
        midnight = datetime(2025, 8, 1)  # noqa: DTZ001  # as Parquet files have it
        right = {"date32[day]": date(2025, 8, 1), "string": "2025-08-01"}.get(str(type_), midnight)
        values = [right] * files.table(CLUSTERS).num_rows
        values[3] = value
        files.set_column(CLUSTERS, "processing_date", pa.array(values, type_))

    return break_


NEXT_MIDNIGHT, LATER = datetime(2025, 8, 2), datetime(2025, 8, 1, 1)  # noqa: DTZ001  # as Parquet files have it
WRONG_DATE = ("processing_date is 2025-08-02", "in row 3", "expected 2025-08-01, the snapshot's own")

CASES = [
    Case(
        "malformed manifest",
        MANIFEST,
        "META.json",
        ("expected JSON in UTF-8", "found b'{ oops'"),
        lambda files: files.manifest_path.write_text("{ oops"),
        hint="it may be cut short",
    ),
    of_manifest(
        "another network",
        lambda meta: meta.update(network="polygon"),
        "network: found 'polygon'",
        "expected 'torus'",
        hint="another snapshot's folder",
    ),
    of_manifest(
        "another date",
        lambda meta: meta.update(processing_date="2025-08-02"),
        "processing_date: found '2025-08-02'",
        "expected '2025-08-01'",
        hint="another snapshot's folder",
    ),
    of_manifest(
        "another window",
        lambda meta: meta.update(window_days=90),
        "window_days: found 90",
        "expected 195",
        hint="another snapshot's folder",
    ),
    of_manifest(
        "unlisted file",
        lambda meta: meta["sha256"].pop("clusters.parquet"),
        "expected exactly one of clusters.parquet and raw_clusters.parquet",
    ),
    of_manifest(
        "name with a path",
        lambda meta: meta["sha256"].update({"../../clusters.parquet": "0" * 64}),
        "../../clusters.parquet",
        "expected a plain file name",
    ),
    Case("no checksum", MANIFEST, "META.json", ("expected a checksum",), unchecked),
    Case(
        "MD5 only",
        MANIFEST,
        "META.json",
        ("expected SHA-256", "INGESTION_ALLOW_MD5"),
        legacy,
        hint="set INGESTION_ALLOW_MD5",
    ),
    Case(
        "file missing",
        FILE,
        "alerts.parquet",
        ("has no snapshots/torus/2025-08-01/195/alerts.parquet", "the manifest lists it"),
        lambda files: files.remove(ALERTS),
        ALERTS,
    ),
    Case(
        "labels missing",
        FILE,
        "address_labels.parquet",
        ("has no", "address-labels/torus_address_labels.parquet"),
        lambda files: files.remove(LABELS),
        LABELS,
    ),
    Case("wrong size", FILE, "alerts.parquet", ("bytes, the manifest says 12345",), sized, ALERTS),
    Case(
        "wrong SHA-256",
        FILE,
        "features.parquet",
        ("SHA256 is", "the manifest says"),
        lambda files: files.corrupt(FEATURES, 1000),
        FEATURES,
    ),
    Case(
        "labels of nobody",
        FILE,
        "address_labels.parquet",
        ("SHA-256 is", "no newer manifest of torus lists it either"),
        lambda files: files.corrupt(LABELS, 1000),
        LABELS,
    ),
    of_columns(
        "not Parquet",
        ALERTS,
        lambda files: files.overwrite(ALERTS, b"<html>Access denied</html>", digest=True),
        "expected a Parquet file",
    ),
    of_columns("truncated Parquet", ALERTS, truncated, "expected a Parquet file"),
    of_columns(
        "damaged list",
        ALERTS,
        lambda files: corrupt_page(files, ALERTS, "risk_indicators"),
        "expected a Parquet file",
    ),
    Case(
        "damaged text",
        LOAD,
        "alerts.parquet",
        ("expected a Parquet file",),
        lambda files: corrupt_page(files, ALERTS, "evidence_json"),
        ALERTS,
    ),
    of_columns(
        "missing column", FEATURES, lambda files: files.drop_column(FEATURES, "kcore"), "missing kcore (UInt32)"
    ),
    of_columns(
        "extra column",
        ALERTS,
        lambda files: files.add_column(ALERTS, "risk", [1.5] * 30),
        "unexpected 'risk' (double)",
        hint="ALTER TABLE raw_alerts_loads ADD COLUMN `risk` Float64",
    ),
    of_columns(
        "extra column without values",
        ALERTS,
        lambda files: files.add_column(ALERTS, "risk", pa.nulls(30)),
        "unexpected 'risk' (null)",
        hint="decide about the new column: INGESTION_IGNORE_EXTRA_COLUMNS=true",
    ),
    of_columns(
        "differently cased column",
        ALERTS,
        lambda files: files.rename_column(ALERTS, "severity", "Severity"),
        "missing severity (String)",
        "unexpected 'Severity' (string), which differs from severity in case",
    ),
    of_columns(
        "unconvertible column",
        FEATURES,
        lambda files: files.cast_column(FEATURES, "kcore", pa.string()),
        "kcore is string, which cannot be stored as UInt32",
        hint="a new export has the same types: ask upstream whether the change is meant",
    ),
    of_columns("column twice", ALERTS, twice, "found 'severity' more than once"),
    of_columns(
        "NULL list", FEATURES, null_list, "hourly_activity is NULL in row 3 (the first is 0)", "expected a list"
    ),
    of_columns(
        "one row more than listed",
        ALERTS,
        lambda files: files.record_count(ALERTS, 29),
        "30 rows, the manifest says 29",
    ),
    of_columns(
        "one row less than listed",
        LABELS,
        lambda files: files.record_count(LABELS, 41),
        "40 rows, the manifest says 41",
    ),
    of_columns(
        "no features",
        FEATURES,
        lambda files: files.replace_table(FEATURES, files.table(FEATURES).slice(0, 0)),
        "no rows",
        "must have some",
    ),
    of_columns(
        "features without columns", FEATURES, lambda files: files.without_rows(FEATURES), "no rows", "must have some"
    ),
    of_value(FEATURES, "degree_in", None, "NULL", "a whole number from 0 to 4294967295 (UInt32)"),
    of_value(FEATURES, "pagerank", None, "NULL", "(Float32)"),
    of_value(FEATURES, "total_in_usd", None, "NULL", "(Decimal(38, 18))"),
    of_value(ALERTS, "description", None, "NULL", "text (String)"),
    of_value(FEATURES, "is_whale", None, "NULL", "true or false (Bool)"),
    of_value(ALERTS, "window_days", None, "NULL", "expected 195, the snapshot's own"),
    of_value(ALERTS, "processing_date", None, "NULL", "expected 2025-08-01, the snapshot's own"),
    of_rows(
        "NULL in a list",
        CLUSTERS,
        lambda files: files.set_value(CLUSTERS, "addresses_involved", 3, ["a", None]),
        "addresses_involved[1] is NULL in row 3",
        "text (String)",
    ),
    of_value(FEATURES, "degree_in", -1, "is -1", "a whole number from 0 to 4294967295 (UInt32)"),
    of_value(FEATURES, "peak_hour", 256, "is 256", "from 0 to 255 (UInt8)"),
    of_value(FEATURES, "degree_in", 2**40, f"is {2**40}", "from 0 to 4294967295"),
    of_value(FEATURES, "degree_in", 5.5, "is 5.5", "a whole number", type_=pa.float64()),
    of_value(FEATURES, "degree_in", float("nan"), "is nan", "a whole number", type_=pa.float64()),
    of_value(FEATURES, "pagerank", 1e300, "is 1e+300", "a number of single precision's range (Float32)"),
    of_rows(
        "a list's element",
        FEATURES,
        lambda files: files.set_value(FEATURES, "hourly_activity", 3, [0] * 23 + [65536]),
        "hourly_activity[23] is 65536 in row 3",
        "from 0 to 65535 (UInt16)",
    ),
    of_value(
        CLUSTERS,
        "total_volume_usd",
        Decimal("1.5e20"),
        "is 150000000000000000000",
        "at most 20 digits before the point and 18 after it",
        type_=pa.decimal256(40, 18),
    ),
    of_value(
        CLUSTERS,
        "total_volume_usd",
        Decimal("1e-19"),
        "is 1E-19",
        "at most 20 digits before the point and 18 after it",
        type_=pa.decimal128(38, 19),
    ),
    *(
        of_rows(
            f"an amount written {text!r}",
            CLUSTERS,
            amount(text),
            f"total_volume_usd is {text!r} in row 3 (the first is 0), expected text of at most 20 digits",
        )
        for text in ("1e-19", "NaN", "")
    ),
    of_rows(
        "only NULL",
        FEATURES,
        lambda files: files.set_column(FEATURES, "kcore", pa.nulls(files.table(FEATURES).num_rows)),
        "kcore is NULL in row 0 (the first is 0), expected a whole number from 0 to 4294967295 (UInt32)",
    ),
    of_value(FEATURES, "amount_variance", None, "NULL", "(Float64)"),
    of_rows("another date, date32", CLUSTERS, another_date(pa.date32(), date(2025, 8, 2)), *WRONG_DATE),
    of_rows("another date, timestamp", CLUSTERS, another_date(pa.timestamp("ms"), NEXT_MIDNIGHT), *WRONG_DATE),
    of_rows(
        "not midnight",
        CLUSTERS,
        another_date(pa.timestamp("ms"), LATER),
        "processing_date is 2025-08-01 01:00:00",
    ),
    of_rows("another date, text", CLUSTERS, another_date(pa.string(), "2025-08-02"), "processing_date is '2025-08-02'"),
    of_value(FEATURES, "window_days", 90, "is 90", "expected 195, the snapshot's own"),
    of_value(LABELS, "network", "bitcoin", "is 'bitcoin'", "expected torus, the snapshot's own"),
    *(
        of_rows(
            id_,
            table,
            partial(SnapshotFiles.duplicate_row, table=table),
            f"1 rows repeat a key ({key})",
            "2 times; an export without FINAL holds old and new rows while upstream replaces them",
            hint="a later export has each key once: ask upstream to publish the snapshot again",
        )
        for id_, table, key in (
            ("an address twice", FEATURES, "address"),
            ("an alert twice", ALERTS, "alert_id"),
            ("a cluster twice", CLUSTERS, "cluster_id"),
            ("a label twice", LABELS, "network, address, label"),
        )
    ),
]


@dataclass
class Base:
    """A warehouse in which a snapshot is published."""

    reader: Reader
    directory: Path
    state: list[tuple[Any, ...]] = field(default_factory=list)

    def deployment(self, bucket: Path, directory: Path, **variables: str) -> Deployment:
        """Return a deployment on this warehouse."""
        home = {"HOME": str(self.directory), "INGESTION_RETRY_DELAY": "0"}
        return Deployment(in_directory(bucket), self.reader, directory, {**home, **variables})

    def newer(self, directory: Path, network: str = "torus", day: str = "2025-08-01") -> SnapshotFiles:
        """Return a valid snapshot, to break: upstream's newer edition of the published one, every value another."""
        return Bucket(directory).snapshot(network, date.fromisoformat(day), seed=1)

    def look(self, network: str = "torus") -> list[tuple[Any, ...]]:
        """Return counts and digests of what readers see, the publications, and the rows that nobody proved."""
        seen = [
            f"SELECT '{table}' AS place, count() AS rows, toString(sum(cityHash64(*))) AS digest FROM {{db}}.{table}"
            for table in contract()
        ]
        loaded = (
            "SELECT load_id FROM {db}.sot_table_loads GROUP BY load_id HAVING argMax(state, recorded_at) = 'loaded'"
        )
        left = [
            f"SELECT 'left in {table}', count(), '' FROM {{db}}.{table}_loads WHERE load_id NOT IN ({loaded})"
            for table in contract()
        ]
        published = "SELECT 'publications', count(), toString(max(published_at)) FROM {db}.sot_publications"
        query = f"SELECT * FROM ({' UNION ALL '.join([*seen, *left, published])})"
        return sorted(self._reading.query(network, query))

    @property
    def _reading(self) -> Deployment:
        return self.deployment(self.directory, self.directory / "reading")


@pytest.fixture(scope="module", params=["server", "embedded"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    """Both warehouses, with one snapshot published."""
    directory = tmp_path_factory.mktemp("base")
    server: ClickHouseServer | None = None
    prefix = f"t{secrets.token_hex(4)}_"
    reader: Reader = EmbeddedReader(directory / "warehouse")
    if request.param == "server":
        server = request.getfixturevalue("clickhouse")
        reader = ServerReader(server, prefix)
    files = Bucket(directory / "bucket").snapshot()
    made = Base(reader, directory)
    result = made.deployment(directory / "bucket", directory / "run").run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    made.state = made.look()
    yield made
    for network in ("torus", "bitcoin") if server else ():
        server.http(f"DROP DATABASE IF EXISTS {prefix}{network} SYNC")  # type: ignore[union-attr]  # not None here


#: Parametrized beside ``case``, never together with it: then the fixture would be made again for each test.
ON_SERVER_BASE = pytest.mark.parametrize("base", ["server"], indirect=True)
EMBEDDED_BASE = pytest.mark.parametrize("base", ["embedded"], indirect=True)

#: What a step before the load refuses is the same whatever the warehouse, and the tests of conversions try values with
#: both: a case of each kind of error of the warehouse, and one of each step.
EMBEDDED_KINDS = {"damaged text", "degree_in -1", "NULL in a list", "another date, text", "an alert twice"}
EMBEDDED = [case for case in CASES if case.id in EMBEDDED_KINDS] + list({case.step: case for case in CASES}.values())


@ON_SERVER_BASE
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_refused_snapshot_changes_nothing(base: Base, case: Case, tmp_path: Path) -> None:
    """One line that says it all; readers see what they saw; nothing of the refused load is left."""
    assert_refused(base, case, tmp_path)


@EMBEDDED_BASE
@pytest.mark.parametrize("case", list(dict.fromkeys(EMBEDDED)), ids=lambda case: case.id)
def test_embedded_clickhouse_refuses_the_same(base: Base, case: Case, tmp_path: Path) -> None:
    """With the same words."""
    assert_refused(base, case, tmp_path)


def assert_refused(base: Base, case: Case, tmp_path: Path) -> None:
    """Break a newer edition of what is published, and look at the error and at what is left."""
    files = base.newer(tmp_path / "bucket")
    case.break_(files)
    _, context = in_process(files.root, base.reader, tmp_path / "run")
    step, table, error = refused(context, files.snapshot)
    context.close()
    assert (step, table) == (case.step, case.table)
    for text in (case.file, *case.says):
        assert text in str(error)
    assert case.hint in error.hint
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 480
    assert base.look() == base.state


def test_a_missing_manifest_is_a_missing_snapshot(base: Base, tmp_path: Path) -> None:
    """Exit 20 and one line, for a date that upstream has not published; what is published stays so."""
    files = base.newer(tmp_path / "bucket")
    missing = replace(files.snapshot, processing_date=date(2025, 8, 3))
    result = base.deployment(files.root, tmp_path / "run").run(missing)
    assert result.exit_code == 20
    (error,) = result.errors()
    assert (error["network"], error["date"], error["step"]) == ("torus", "2025-08-03", "FindSnapshot")
    assert f"Found no snapshots/torus/2025-08-03/195 at file://{files.root}" in error["message"]
    assert "there is no META.json" in error["hint"]
    assert [event["level"] for event in result.log()] == ["ERROR", "ERROR"]
    assert base.look() == base.state


def assert_told(result: Result, case: Case, snapshot: Snapshot) -> None:
    """Exit 30, and one line with network, date, step, table, file, and what to do."""
    assert result.exit_code == 30, result.stderr
    (error,) = result.errors()
    assert (error["network"], error["date"]) == (snapshot.network, snapshot.processing_date.isoformat())
    assert (error["step"], error.get("table")) == (case.step, case.table)
    for text in (case.file, *case.says):
        assert text.replace("torus", snapshot.network) in error["message"]
    assert case.hint in error["hint"]
    assert "Traceback" not in result.stderr
    assert len(error["message"]) < 500


#: One of the manifest's, one of the files', and one of the warehouse's.
SAMPLED = ["another network", "truncated Parquet", "an alert twice"]


@ON_SERVER_BASE
@pytest.mark.parametrize("case", [case for case in CASES if case.id in SAMPLED], ids=lambda case: case.id)
def test_a_mended_snapshot_is_published(base: Base, case: Case, tmp_path: Path) -> None:
    """The refused date can be run again: with the defect it says the same, without it every row is published."""
    day = f"2025-09-{CASES.index(case) % 28 + 1:02}"
    whole = base.newer(tmp_path / "whole", "bitcoin", day)
    broken = base.newer(tmp_path / "bucket", "bitcoin", day)
    case.break_(broken)
    deployment = base.deployment(broken.root, tmp_path / "run")
    for _ in range(2):
        assert_told(deployment.run(broken.snapshot), case, broken.snapshot)
    for path in whole.root.rglob("*"):
        if path.is_file():
            shutil.copyfile(path, broken.root / path.relative_to(whole.root))
    result = deployment.run(broken.snapshot)
    assert result.exit_code == 0, result.stderr
    for table in contract():
        assert multiset(deployment.rows(table, whole.snapshot)) == multiset(whole.expected_rows(table))


@ON_SERVER_BASE
def test_extra_columns_can_be_ignored(base: Base, tmp_path: Path) -> None:
    """With the setting, a file with a new column is loaded without it."""
    files = base.newer(tmp_path / "bucket", "bitcoin", "2025-10-01")
    files.add_column(ALERTS, "risk", [1.5] * 30)
    deployment = base.deployment(files.root, tmp_path / "run", INGESTION_IGNORE_EXTRA_COLUMNS="true")
    result = deployment.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    for table in contract():
        assert multiset(deployment.rows(table, files.snapshot)) == multiset(files.expected_rows(table))


def test_other_rows_of_a_file_that_is_loaded(server_reader: ServerReader, tmp_path: Path) -> None:
    """A newer manifest lists a loaded file with a row less: it is not published, and the file is fetched again."""
    deployment, context = in_process(tmp_path / "bucket", server_reader, tmp_path / "run")
    files = Bucket(tmp_path / "bucket").snapshot()
    ingest(context, files.snapshot)
    before = deployment.publications(files.snapshot)
    files.record_count(ALERTS, 29)
    with pytest.raises(RowCountError, match="30 rows, the manifest says 29"):
        publish_loaded(context, files.snapshot)
    assert not context.workspace(files.snapshot).file_path(BY_NAME[ALERTS]).exists()
    assert deployment.publications(files.snapshot) == before
    deployment.assert_readers_see(files)


def publish_loaded(context: Context, snapshot: Snapshot) -> None:
    """Do what the graph does when all files that the manifest lists are loaded already."""
    steps.download_manifest(context, snapshot)
    steps.validate_manifest(context, snapshot)
    for table in TABLES:
        steps.download_file(context, snapshot, table, lambda *_: None)
    steps.publish_snapshot(context, snapshot)
