"""A digest of a table's cells that ClickHouse computes where the rows are: the proof from one end to the other."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.tables import Table


def content_digest(table: Table, values: Mapping[str, str] | None = None) -> str:
    """Return the SQL of a digest over all cells that a file brought, the same for any order of the rows.

    ``values`` has the expression of each column where it is not the column itself; types must be the table's.
    A 64-bit hash of each row, added modulo 2**64; 16 hex digits. It finds accidents: of two different tables one in
    2**64 has the same digest. Against a forger there is the SHA-256 of the file.
    """
    columns = ", ".join((values or {}).get(column.name, column.name) for column in table.file_columns)
    return f"lower(leftPad(hex(sum(cityHash64({columns}))), 16, '0'))"
