"""One function a check: each returns facts, or raises an error that says what is wrong with which file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ASK_UPSTREAM, FileError, RefusedValueError, RowCountError, SchemaError
from pipeline.files import atomic
from pipeline.files.conversion import is_convertible, read_type
from pipeline.files.parquet import Footer, open_parquet
from pipeline.manifest import FileEntry
from pipeline.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 16_384

_ANOTHER_TYPE = (
    "a new export has the same types: ask upstream whether the change is meant, and change pipeline/schema, or how "
    "values are converted, if it is; what readers see has not changed"
)


def check_size(path: Path, entry: FileEntry) -> int:
    """Return the file's size in bytes. Raises FileError when it is missing or not as large as the manifest says."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise FileError(f"{entry.name}: missing at {path}", hint="run again: the file is fetched again") from None
    if entry.size is not None and size != entry.size:
        raise FileError(f"{entry.name}: {size} bytes, the manifest says {entry.size}", hint=ASK_UPSTREAM)
    return size


def check_columns(footer: Footer, table: Table, name: str, *, ignore_extra: bool) -> None:
    """Raise SchemaError unless the file's columns are those of the table, each convertible.

    A file without rows has no columns: that is how upstream exports an empty table.
    """
    if not footer.columns and not footer.rows:
        return
    wanted = {column.name: column for column in table.file_columns}
    problems = [
        f"missing {column.name} ({column.type})"
        for column in table.file_columns
        if column.name not in footer.columns and column.name not in table.snapshot_columns
    ]
    is_partial = bool(problems)
    problems += [
        f"{name_} is {arrow}, which cannot be stored as {wanted[name_].type}"
        for name_, arrow in footer.columns.items()
        if name_ in wanted and not is_convertible(table, wanted[name_], arrow)
    ]
    known = {*wanted, *table.dropped_columns}
    extra = {name_: arrow for name_, arrow in footer.columns.items() if name_ not in known and not ignore_extra}
    hint = ASK_UPSTREAM if is_partial else _ANOTHER_TYPE if problems else _hint_about(extra, table)
    problems += [f"unexpected {name_!r} ({arrow}){_twin(name_, known)}" for name_, arrow in extra.items()]
    if problems:
        raise SchemaError(f"{name}: columns are not those of {table.name}: {'; '.join(problems)}", hint=hint)


def _hint_about(extra: Mapping[str, pa.DataType], table: Table) -> str:
    """Return what to do about columns that are new."""
    names = {name: name.replace("\\", "\\\\").replace("`", "\\`") for name in extra}
    types = {name: re.sub(r"Nullable\((.*)\)", r"\1", read_type(arrow) or "") for name, arrow in extra.items()}
    add = ", ".join(f"ADD COLUMN `{names[name]}` {types[name]}" for name in extra)
    stores = f"ALTER TABLE {table.loads} {add} (add it to schema/, too, and drop the view) stores it, "
    ignores = "INGESTION_IGNORE_EXTRA_COLUMNS=true loads the file without it; what readers see has not changed"
    return f"decide about the new column: {stores if all(types.values()) else ''}{ignores}"


def _twin(name: str, known: set[str]) -> str:
    """Say that a column is a known one in other letters: names are compared byte for byte, as ClickHouse does."""
    twins = [other for other in known if other.lower() == name.lower()]
    return f", which differs from {twins[0]} in case" if twins else ""


def check_rows(rows: int, table: Table, entry: FileEntry) -> int:
    """Return the row count. Raises RowCountError when it is not the manifest's, or 0 where rows must be."""
    if entry.rows is not None and rows != entry.rows:
        raise RowCountError(f"{entry.name}: {rows} rows, the manifest says {entry.rows}", hint=ASK_UPSTREAM)
    if not rows and not table.may_be_empty:
        raise RowCountError(f"{entry.name}: no rows, {table.name} must have some every day", hint=ASK_UPSTREAM)
    return rows


def check_lists(path: Path, table: Table, name: str) -> None:
    """Raise RefusedValueError when a list is NULL: ClickHouse reads it as an empty list without an error.

    All lists are read. Statistics could say that there is no NULL, but pyarrow ends the process when it is asked for
    those of a column that is encrypted, or of a footer that is damaged.
    """
    lists = [column.name for column in table.file_columns if column.type.startswith("Array")]
    with open_parquet(path, name) as file:
        there = [column for column in lists if column in file.schema_arrow.names]
        row = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=there) if there else ():
            for column in there:
                if batch[column].null_count:
                    where = row + batch[column].is_null().index(True).as_py()
                    raise RefusedValueError(
                        f"{name}: {column} is NULL in row {where} (the first is 0), expected a list",
                        hint=ASK_UPSTREAM,
                    )
            row += batch.num_rows


def check_sha256(path: Path, name: str, expected: str, report: Callable[[int], None] = lambda _: None) -> str:
    """Return the file's SHA-256; ``report`` is called with bytes read. Raises FileError when it is another."""
    found = atomic.sha256_of(path, report)
    if found != expected:
        raise FileError(
            f"{name}: SHA-256 of {path} is {found}, expected {expected}",
            hint="the file changed on disk and was removed; run again: it is fetched again",
        )
    return found
