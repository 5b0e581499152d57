"""Every form in which upstream publishes a snapshot arrives: dialects, names, places, types, empty tables.

A network's snapshot has several forms that have nothing to do with each other, and one run ingests all networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import own_databases
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import ALONE, Deployment, EmbeddedReader, Reader, Result, ServerReader, in_directory
from tests.support.snapshots import LABELS, Bucket, SnapshotFiles, contract

DATED = ("raw_alerts", "raw_features", "raw_clusters")


def current_raw_names(files: SnapshotFiles) -> None:
    """raw_ names in the current dialect, the labels among them in the folder."""
    files.move_labels_inside()
    files.use_raw_names()


def in_a_list(files: SnapshotFiles) -> None:
    """The list dialect, nothing beside the list."""
    files.as_list_dialect()


def in_a_list_with_prefix(files: SnapshotFiles) -> None:
    """The list dialect with ``sha256:`` before each digest and the snapshot's facts beside the list."""
    files.as_list_dialect(prefix=True, facts=True)


def in_a_list_with_raw_names(files: SnapshotFiles) -> None:
    """The list dialect with raw_ names, the labels in the folder."""
    files.move_labels_inside()
    files.as_list_dialect(raw_names=True)


def legacy(files: SnapshotFiles) -> None:
    """The legacy dialect: MD5."""
    files.as_legacy_dialect()


def labels_inside(files: SnapshotFiles) -> None:
    """The labels in the snapshot's folder."""
    files.move_labels_inside()


def no_rows_but_columns(files: SnapshotFiles) -> None:
    """No alert: a file with all its columns."""
    files.replace_table("raw_alerts", files.table("raw_alerts").slice(0, 0))


def quiet_day(files: SnapshotFiles) -> None:
    """Nothing but features: the other files have no columns either."""
    for table in ("raw_alerts", "raw_clusters", LABELS):
        files.without_rows(table)


def dates_as_timestamps(files: SnapshotFiles) -> None:
    """processing_date as timestamp[ms] at midnight."""
    for table in DATED:
        files.cast_column(table, "processing_date", pa.timestamp("ms"))


def dates_as_text(files: SnapshotFiles) -> None:
    """processing_date as strings."""
    for table in DATED:
        files.cast_column(table, "processing_date", pa.large_string())


def without_key_columns(files: SnapshotFiles) -> None:
    """Neither processing_date nor window_days in any file."""
    for table in DATED:
        files.drop_column(table, "processing_date")
        files.drop_column(table, "window_days")


def labels_without_network(files: SnapshotFiles) -> None:
    """No network in the labels."""
    files.drop_column(LABELS, "network")


def with_version(files: SnapshotFiles) -> None:
    """``_version`` in every file."""
    for table in contract():
        rows = files.table(table).num_rows
        files.add_column(table, "_version", pa.array(range(rows), pa.int64()))


def columns_in_another_order(files: SnapshotFiles) -> None:
    """Columns are found by name."""
    for table in contract():
        data = files.table(table)
        files.replace_table(table, data.select(sorted(data.column_names, reverse=True)))


def decimals(precision: int, scale: int, largest: str) -> Callable[[SnapshotFiles], None]:
    """Return a form with alerts whose amounts are of another decimal type."""

    def form(files: SnapshotFiles) -> None:
        rows = files.table("raw_alerts").num_rows
        type_ = (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
        values = [Decimal(largest), Decimal(f"-{largest}"), *map(Decimal, range(rows - 2))]
        files.set_column("raw_alerts", "volume_usd", pa.array(values, type_))

    return form


def amounts_as_text(files: SnapshotFiles) -> None:
    """Amounts as upstream's newer core writes them: ``format(value, "f")``."""
    for table, columns in contract().items():
        for column in [name for name, type_ in columns.items() if type_.startswith("Decimal")]:
            values = [format(value, "f") for value in files.table(table)[column].to_pylist()]
            files.set_column(table, column, pa.array(values, pa.large_string()))


def not_a_number(files: SnapshotFiles) -> None:
    """NULL where upstream computed NaN: in one row, and in all rows."""
    files.set_value("raw_features", "volume_std", 3, None)
    files.set_column("raw_features", "volume_cv", pa.nulls(files.table("raw_features").num_rows))


def empty_lists(files: SnapshotFiles) -> None:
    """No alert has an indicator: pandas writes list<null>."""
    empty: list[list[str]] = [[]] * files.table("raw_alerts").num_rows
    files.set_column("raw_alerts", "risk_indicators", pa.array(empty, pa.list_(pa.null())))


def no_rows_and_no_types(files: SnapshotFiles) -> None:
    """No cluster: all columns are of the type null."""
    data = files.table("raw_clusters")
    files.replace_table("raw_clusters", pa.table({name: pa.nulls(0) for name in data.column_names}))


def text_as(text: pa.DataType) -> Callable[[SnapshotFiles], None]:
    """Return a form with all text of another Arrow type, which only ARROW:schema in the file knows."""

    def form(files: SnapshotFiles) -> None:
        for table in contract():
            for field in files.table(table).schema:
                if pa.types.is_large_string(field.type) or pa.types.is_string(field.type):
                    values = files.table(table)[field.name].to_pylist()
                    files.set_column(table, field.name, pa.array(values, text))

    return form


FORMS: dict[str, tuple[Callable[[SnapshotFiles], None], ...]] = {
    "raw_names": (current_raw_names, dates_as_timestamps, decimals(9, 2, "1234567.89")),
    "a_list": (in_a_list, dates_as_text, text_as(pa.string_view())),
    "prefix": (in_a_list_with_prefix, with_version),
    "raw_list": (in_a_list_with_raw_names, columns_in_another_order, decimals(38, 18, f"{'9' * 20}.{'9' * 18}")),
    "legacy": (legacy, without_key_columns, decimals(20, 0, "9" * 20)),
    "inside": (labels_inside, decimals(45, 20, "12345678901234567890.123456789012345678")),
    "no_alerts": (no_rows_but_columns, labels_without_network, text_as(pa.dictionary(pa.int32(), pa.string()))),
    "newer": (amounts_as_text, not_a_number, empty_lists, no_rows_and_no_types),
    "quiet": (quiet_day,),
}  #: by network


@dataclass(frozen=True)
class Ingested:
    """All networks, ingested by one run, a second run after it, and a comparison with some of the files."""

    deployment: Deployment
    files: dict[str, SnapshotFiles]
    first: Result
    second: Result
    compared: Result


@pytest.fixture(scope="module", params=["server", "embedded"])
def ingested(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingested]:
    """Both warehouses, with all forms."""
    directory = tmp_path_factory.mktemp("forms")
    bucket = Bucket(directory / "bucket")
    files = {name: bucket.snapshot(name) for name in FORMS}
    for name, forms in FORMS.items():
        for form in forms:
            form(files[name])
    with ExitStack() as stack:
        reader: Reader = EmbeddedReader(directory / "warehouse")
        if request.param == "server":
            server: ClickHouseServer = request.getfixturevalue("clickhouse")
            reader = ServerReader(server, stack.enter_context(own_databases(server)), tuple(FORMS))
        deployment = Deployment(in_directory(bucket.root), reader, directory / "run")
        deployment.variables = {"INGESTION_NETWORKS": ",".join(FORMS), "INGESTION_ALLOW_MD5": "true"}
        first, second = (deployment.command("sot-ingest", "run", "--date", "2025-08-01", *ALONE) for _ in range(2))
        networks = [option for name in ("a_list", "no_alerts", "newer") for option in ("--network", name)]
        compared = deployment.command("sot-ingest", "verify", "--deep", "--date", "2025-08-01", *networks)
        stack.enter_context(reader.held())
        yield Ingested(deployment, files, first, second, compared)


@pytest.mark.parametrize("network", FORMS)
def test_the_forms_of_a_snapshot_arrive(ingested: Ingested, network: str) -> None:
    """Every cell of every row is what an independent reader finds in the files."""
    assert [error for error in ingested.first.errors() if error["network"] == network] == []
    ingested.deployment.assert_readers_see(ingested.files[network])


def test_all_networks_were_ingested_by_one_run(ingested: Ingested) -> None:
    """The run ends well, and a second one has nothing to do for any network."""
    assert (ingested.first.exit_code, ingested.first.errors()) == (0, [])
    assert (ingested.second.exit_code, ingested.second.done) == (0, [])


def test_the_files_are_compared_with_the_rows(ingested: Ingested) -> None:
    """Loaded once more by ``verify --deep``, each form is the same rows: NaN, text and lists among them."""
    assert ingested.compared.exit_code == 0, ingested.compared.stdout


def test_the_ledger_says_what_proved_a_file(ingested: Ingested) -> None:
    """md5 for the legacy dialect, sha256 for all others; in the log, too."""
    ledgers = {name: ingested.deployment.ledger(ingested.files[name].snapshot) for name in FORMS}
    proofs = {name: {load["proof"] for load in ledger} for name, ledger in ledgers.items()}
    assert proofs == {name: {"md5" if name == "legacy" else "sha256"} for name in FORMS}
    told = {event["network"] for event in ingested.first.events("Downloaded file") if event.get("proven_by") == "md5"}
    assert told == {"legacy"}


def test_created_at_is_the_time_of_the_load(ingested: Ingested) -> None:
    """Every row of a load has the second at which the load began, whatever the file brought (``_version``, here)."""
    snapshot = ingested.files["prefix"].snapshot
    started = {load["table_name"]: load["started_at"] for load in ingested.deployment.ledger(snapshot)}
    for table in DATED:
        ((created, type_),) = ingested.deployment.query(
            snapshot.network, f"SELECT DISTINCT toUInt32(created_at), toTypeName(created_at) FROM {{db}}.{table}"
        )
        begun: datetime = started[table]
        assert type_ == "DateTime"
        assert timedelta() <= begun - datetime.fromtimestamp(created, begun.tzinfo) < timedelta(seconds=1)


def test_md5_is_refused_unless_it_is_allowed(reader: Reader, tmp_path: Path) -> None:
    """The legacy dialect without INGESTION_ALLOW_MD5: nothing is downloaded, and the setting is named."""
    files = Bucket(tmp_path / "bucket").snapshot()
    files.as_legacy_dialect()
    result = Deployment(in_directory(files.root), reader, tmp_path / "run").run(files.snapshot)
    assert result.exit_code == 30
    (error,) = result.errors()
    assert error["step"] == "ValidateManifest"
    assert "INGESTION_ALLOW_MD5" in error["message"] + error["hint"]
    assert result.events("Downloaded file") == []
