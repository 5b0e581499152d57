"""The schema files are the contract with readers."""

import csv
from pathlib import Path

import pytest

from pipeline.tables import TABLES, Column, Table, columns_of

CONTRACT = Path(__file__).parents[1] / "columns.csv"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_columns_are_those_that_readers_know(table: Table) -> None:
    """Names, types and order equal the contract's."""
    with CONTRACT.open(encoding="utf-8", newline="") as lines:
        wanted = [
            Column(row["column"], row["clickhouse_type"]) for row in csv.DictReader(lines) if row["table"] == table.name
        ]
    assert list(table.columns) == wanted


def test_the_contract_has_no_other_tables() -> None:
    """Four tables; money flows are not one of them."""
    with CONTRACT.open(encoding="utf-8", newline="") as lines:
        assert {row["table"] for row in csv.DictReader(lines)} == {table.name for table in TABLES}


def test_publications_have_the_columns_that_readers_know() -> None:
    """Readers pin their queries by these."""
    assert [column.name for column in columns_of("sot_publications")] == [
        "processing_date",
        "window_days",
        "publication_id",
        "action",
        "manifest_sha256",
        "load_ids",
        "row_counts",
        "source",
        "published_at",
        "published_by",
        "run_id",
        "pipeline_version",
    ]
