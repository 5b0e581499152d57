"""What a network's tables take up, and how full the disks of its server are."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.warehouse import Warehouse


@dataclass(frozen=True)
class TableSize:
    """A table as it is stored: with the loads that readers do not see."""

    name: str
    rows: int
    bytes: int  #: compressed, on disk


@dataclass(frozen=True)
class Disk:
    """A disk of the warehouse's server."""

    name: str
    free_bytes: int
    total_bytes: int


def table_sizes(warehouse: Warehouse) -> list[TableSize]:
    """Return the size of each table of the network's database, by name; one query. Raises WarehouseError."""
    rows = warehouse.query(
        """
        SELECT name, assumeNotNull(total_rows), assumeNotNull(total_bytes)
        FROM system.tables
        WHERE database = {name:String} AND total_bytes IS NOT NULL AND total_rows IS NOT NULL
        ORDER BY name
        """,
        name=warehouse.database,
    )
    return [TableSize(name, int(count), int(size)) for name, count, size in rows]


def disks(warehouse: Warehouse) -> list[Disk]:
    """Return the local disks of the network's server; none where its user may not see them. Raises WarehouseError."""
    if not int(warehouse.query("CHECK GRANT SELECT(name, free_space, total_space) ON system.disks")[0][0]):
        return []
    rows = warehouse.query(
        """
        SELECT name, toUInt64(free_space), toUInt64(total_space)
        FROM system.disks
        WHERE total_space BETWEEN 1 AND 1e18  -- an object store says that it has no end
        ORDER BY name
        """
    )
    return [Disk(name, int(free), int(total)) for name, free, total in rows]
