"""The demo bucket is like upstream's, and the test snapshots break in one place at a time."""

import hashlib
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline.demo import bucket, values
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, TABLES, Table
from tests.support.snapshots import Bucket, SnapshotFiles, expected_rows

SAMPLES = Path(__file__).parents[2] / "samples"
DAY = date(2025, 8, 1)
TORUS = Snapshot("torus", DAY, 195)
NAMES = [table.name for table in TABLES]


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """One valid snapshot."""
    return Bucket(tmp_path / "bucket").snapshot()


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def without_precision(kind: pa.DataType) -> pa.DataType:
    """Upstream infers the precision of decimals per file."""
    return pa.decimal128(38, kind.scale) if pa.types.is_decimal(kind) else kind


def assert_manifest_true(files: SnapshotFiles) -> None:
    """Digests and counts are those of the files, in the current dialect."""
    document = files.manifest()
    for table in TABLES:
        data = files.path(table.name).read_bytes()
        assert document["sha256"][files.names[table.name]] == hashlib.sha256(data).hexdigest()
        assert document["counts"][table.stem] == files.table(table.name).num_rows


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_upstreams(name: str, files: SnapshotFiles) -> None:
    """Columns, their order and their types equal the samples', decimal precision aside."""
    sample = pq.read_schema(SnapshotFiles(SAMPLES, TORUS).path(name))
    ours = pq.read_schema(files.path(name))
    assert [(field.name, without_precision(field.type), field.nullable) for field in ours] == [
        (field.name, without_precision(field.type), field.nullable) for field in sample
    ]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_encoded_as_upstreams(name: str, files: SnapshotFiles) -> None:
    """Snappy, the same physical types, one row group."""
    sample = pq.read_metadata(SnapshotFiles(SAMPLES, TORUS).path(name))
    ours = pq.read_metadata(files.path(name))
    assert ours.num_row_groups == sample.num_row_groups == 1
    for index in range(sample.num_columns):
        column, wanted = ours.row_group(0).column(index), sample.row_group(0).column(index)
        assert (column.path_in_schema, column.physical_type, column.compression) == (
            wanted.path_in_schema,
            wanted.physical_type,
            wanted.compression,
        )


def test_of_some_addresses_there_is_nothing_to_measure(files: SnapshotFiles) -> None:
    """Without them a large file would be half as large again as upstream's. The others have no 0 in any column."""
    features = files.table("raw_features")
    measured = [column.name for column in BY_NAME["raw_features"].file_columns if column.type in values.MEASURED]
    zeros = {tuple(value == 0 for value in row.values()) for row in features.select(measured).to_pylist()}
    assert zeros == {(True,) * len(measured), (False,) * len(measured)}
    assert 0.3 < sum(value == 0 for value in features["pagerank"].to_pylist()) / features.num_rows < 0.55


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_keys_are_unique(table: Table, files: SnapshotFiles) -> None:
    """No two rows of a file have the same key."""
    data = files.table(table.name)
    assert data.group_by(list(table.key)).aggregate([]).num_rows == data.num_rows > 0


def test_row_counts_name_every_file() -> None:
    """A fifth table needs a count, too."""
    assert {table.stem for table in TABLES} == set(bucket.Rows.__dataclass_fields__)


def test_the_manifest_is_upstreams_and_true(files: SnapshotFiles) -> None:
    """The same keys as in the samples, in their order; digests and counts of the files."""
    assert list(files.manifest()) == list(SnapshotFiles(SAMPLES, TORUS).manifest())
    assert files.manifest()["batch_id"] == "torus-2025-08-01-195d"
    assert files.manifest()["generated_at"] == "2025-08-03T00:30:00Z"
    assert_manifest_true(files)


def test_the_bucket_has_upstreams_layout(tmp_path: Path) -> None:
    """The same keys as the samples, and the mark that lets us overwrite them."""
    bucket.write_bucket(tmp_path, ["ethereum", "bitcoin", "torus"], [DAY, date(2025, 8, 2)])
    assert set(contents(tmp_path)) == {*contents(SAMPLES), bucket.MARKER}


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    """Another seed, network or day gives others; labels are the same on every day, as in the samples."""
    first, again, other = tmp_path / "first", tmp_path / "again", tmp_path / "other"
    for root, seed in ((first, 0), (again, 0), (other, 1)):
        bucket.write_bucket(root, ["torus", "bitcoin"], [DAY], seed=seed)
    assert contents(first) == contents(again)
    parquet = [data for root in (first, other) for name, data in contents(root).items() if "parquet" in name]
    assert len(set(parquet)) == len(parquet) == 16
    bucket.write_bucket(again, ["torus"], [date(2025, 8, 2)])
    assert contents(first).items() < contents(again).items()


def test_an_export_without_rows_is_a_file_without_columns(tmp_path: Path) -> None:
    """Count 0, no rows, no columns."""
    files = Bucket(tmp_path).snapshot(rows=bucket.Rows(alerts=0))
    assert files.table("raw_alerts").shape == (0, 0)
    assert files.manifest()["counts"]["alerts"] == 0
    assert_manifest_true(files)


def test_row_groups_bound_the_memory(tmp_path: Path) -> None:
    """As many groups as asked for, all rows, no key twice."""
    rows = bucket.Rows(features=25, alerts=0, clusters=0, address_labels=0)
    bucket.write_bucket(tmp_path, ["torus"], [DAY], rows=rows, row_group_rows=10)
    path = SnapshotFiles(tmp_path, TORUS).path("raw_features")
    groups = pq.read_metadata(path)
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [10, 10, 5]
    assert len(set(pq.read_table(path)["address"].to_pylist())) == 25


def test_the_command_writes_a_bucket_and_says_so(tmp_path: Path) -> None:
    """One line a snapshot; run again, it writes over its own."""
    arguments = [str(tmp_path / "new"), "--networks", "torus,bitcoin", "--dates", "2025-08-01"]
    for features in ("20", "40"):
        result = CliRunner().invoke(bucket.main, [*arguments, "--features", features, "--alerts", "3"])
        assert (result.exit_code, result.output) == (0, "torus/2025-08-01/195\nbitcoin/2025-08-01/195\n")
        counts = SnapshotFiles(tmp_path / "new", TORUS).manifest()["counts"]
        assert (counts["features"], counts["alerts"]) == (int(features), 3)


def test_the_command_refuses_a_directory_of_somebody_else(tmp_path: Path) -> None:
    """Exit 2, the directory named, nothing written."""
    (tmp_path / "precious").write_text("x")
    result = CliRunner().invoke(bucket.main, [str(tmp_path)])
    assert result.exit_code == 2
    assert f"{tmp_path} is not empty and not a demo bucket" in result.output
    assert contents(tmp_path) == {"precious": b"x"}


@pytest.mark.parametrize("wrong", [["--dates", "yesterday"], ["--networks", "No"], ["--window-days", "0"]])
def test_the_command_refuses_impossible_arguments(wrong: list[str], tmp_path: Path) -> None:
    """Exit 2, nothing written."""
    result = CliRunner().invoke(bucket.main, [str(tmp_path / "new"), *wrong])
    assert result.exit_code == 2
    assert not (tmp_path / "new").exists()


def test_a_knob_changes_the_data_and_the_manifest_follows(files: SnapshotFiles) -> None:
    """Each knob does its one thing; digests and counts stay true."""
    files.set_value("raw_features", "peak_hour", 3, -1)
    assert files.table("raw_features")["peak_hour"][3].as_py() == -1
    files.set_value("raw_alerts", "volume_usd", 0, Decimal("1e19"), pa.decimal128(38, 18))
    assert files.table("raw_alerts")["volume_usd"][0].as_py() == Decimal("1e19")
    files.cast_column("raw_alerts", "processing_date", pa.timestamp("ms"))
    files.rename_column("raw_clusters", "cluster_type", "kind")
    files.drop_column("raw_clusters", "pattern_id")
    files.add_column("raw_clusters", "novel", range(20))
    columns = files.table("raw_clusters").column_names
    assert ("kind" in columns, "pattern_id" in columns, columns[-1]) == (True, False, "novel")
    files.duplicate_row("raw_features", 7)
    files.delete_row("raw_address_labels", 1)
    assert [files.table(name).num_rows for name in ("raw_features", "raw_address_labels")] == [51, 39]
    files.without_rows("raw_alerts")
    assert files.expected_rows("raw_alerts") == []
    assert_manifest_true(files)


def test_a_damaged_file_does_not_change_the_manifest(files: SnapshotFiles) -> None:
    """There the mismatch is the defect."""
    before, intact = files.manifest(), files.path("raw_alerts").read_bytes()
    files.corrupt("raw_alerts", -1)
    damaged = files.path("raw_alerts").read_bytes()
    assert (damaged[:-1], damaged[-1]) == (intact[:-1], intact[-1] ^ 0xFF)
    files.truncate("raw_features", 100)
    files.remove("raw_clusters")
    assert files.path("raw_features").stat().st_size == 100
    assert not files.path("raw_clusters").exists()
    assert files.manifest() == before


def test_the_dialects_name_and_prove_the_same_files(files: SnapshotFiles) -> None:
    """Raw names and labels inside move files; a knob afterwards keeps the dialect and its digests true."""
    files.move_labels_inside()
    files.as_list_dialect(prefix=True, raw_names=True)
    files.delete_row("raw_address_labels")
    data = (files.manifest_path.parent / "raw_address_labels.parquet").read_bytes()
    entry = {
        "filename": "raw_address_labels.parquet",
        "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}",
    }
    assert list(files.manifest()) == ["files"]
    assert entry in files.manifest()["files"]
    files.as_legacy_dialect()
    files.overwrite("raw_alerts", b"not Parquet", digest=True)
    md5 = hashlib.md5(b"not Parquet", usedforsecurity=False).hexdigest()
    assert files.manifest()["files"]["raw_alerts.parquet"] == {"md5": md5}


@pytest.mark.parametrize("name", NAMES)
def test_expected_rows_read_the_samples(name: str) -> None:
    """Every row, every column of the contract except created_at, single precision where the table has it."""
    sample = SnapshotFiles(SAMPLES, TORUS)
    rows = expected_rows(sample.path(name), name, TORUS)
    columns = [column.name for column in next(t for t in TABLES if t.name == name).file_columns]
    assert len(rows) == sample.manifest()["counts"][name.removeprefix("raw_")]
    assert {len(row) for row in rows} == {len(columns)}
    first = dict(zip(columns, rows[0], strict=True))
    assert (first["processing_date"], first["window_days"]) == (DAY, 195)


def test_expected_rows_are_what_the_table_stores(files: SnapshotFiles) -> None:
    """Single precision, 18 digits, dates from any of their spellings, the snapshot's own values filled in."""
    files.set_value("raw_alerts", "alert_confidence_score", 0, 0.1)
    files.set_column("raw_alerts", "volume_usd", pa.array([Decimal("1.5")] * 30, pa.decimal128(20, 2)))
    files.cast_column("raw_alerts", "processing_date", pa.timestamp("ms"))
    files.drop_column("raw_alerts", "window_days")
    row = files.expected_rows("raw_alerts")[0]
    assert row[:2] == (195, DAY)
    assert row[10] == 0.10000000149011612
    assert str(row[12]) == "1.500000000000000000"
    assert isinstance(row[14], list)
