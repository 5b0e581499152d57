"""What a network's tables take up, asked of both warehouses."""

from __future__ import annotations

from pipeline.tables import BY_NAME, LEDGER
from pipeline.warehouse import Warehouse
from pipeline.warehouse.storage import disks, table_sizes


def test_tables_are_told_with_their_rows_and_bytes(warehouse: Warehouse) -> None:
    """Also those that are empty; views take up nothing and are left out."""
    sizes = {size.name: size for size in table_sizes(warehouse)}
    assert {table.loads for table in BY_NAME.values()} | {LEDGER} <= sizes.keys()
    assert not sizes.keys() & BY_NAME.keys()
    assert {(size.rows, size.bytes) for size in sizes.values()} == {(0, 0)}
    warehouse.execute(f"INSERT INTO {{database}}.{LEDGER} (processing_date) VALUES ('2025-08-01')")
    grown = {size.name: size for size in table_sizes(warehouse)}[LEDGER]
    assert grown.rows == 1
    assert grown.bytes > 0


def test_disks_are_told_with_their_space(warehouse: Warehouse) -> None:
    """Some of it is free."""
    found = disks(warehouse)
    assert found
    assert all(0 < disk.free_bytes <= disk.total_bytes for disk in found)
