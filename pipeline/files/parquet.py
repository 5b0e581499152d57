"""A Parquet file as pyarrow reads it: its footer, and an error that says what is wrong with it.

A column has the type of the Parquet schema, which is what ClickHouse reads, too. The writer's Arrow types, which the
footer has in ``ARROW:schema``, are left out: they make dictionaries of pandas' and polars' categories, and string views
of polars' text, though what is in the pages is the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ASK_UPSTREAM, FileError, SchemaError, WorkDirectoryError
from pipeline.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BUFFER = 1 << 16  #: bytes that are read at once of a column
_ENDING = 8  #: bytes after the footer: its length in 4, and the magic number
_ARROW_SCHEMA, _UNKNOWN = b"ARROW:schema", b"arrow-schema"  #: a key of the footer's metadata, and one that is none


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself."""

    rows: int
    columns: Mapping[str, pa.DataType]


def read_footer(path: Path, name: str) -> Footer:
    """Return a Parquet file's row count and columns. Raises FileError when it is not Parquet."""
    with open_parquet(path, name) as file:
        schema = file.schema_arrow
        twice = sorted({column for column in schema.names if schema.names.count(column) > 1})
        if twice:
            raise SchemaError(
                f"{name}: found {', '.join(map(repr, twice))} more than once, expected each column once",
                hint=ASK_UPSTREAM,
            )
        return Footer(file.metadata.num_rows, {field.name: field.type for field in schema})


@contextmanager
def open_parquet(path: Path, name: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file. Raises FileError, also inside the block, when pyarrow cannot read what is in it.

    pyarrow's own defaults hold all columns of a row group at once, and upstream writes one row group a file: reading
    in batches took 0.7 GB for 640,000 features rows and 1.4 GB for 1,920,000; with these it takes 0.4 GB for both.
    """
    import pyarrow as pa  # noqa: PLC0415  # slow to import; luigi needs it only when a task runs
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with atomic.reported(path):
            metadata = pq.read_metadata(pa.BufferReader(_footer(path).replace(_ARROW_SCHEMA, _UNKNOWN)))
            reading = {"pre_buffer": False, "buffer_size": _BUFFER, "arrow_extensions_enabled": False}
            with pq.ParquetFile(path, metadata=metadata, **reading) as file:
                yield file
    except (pa.ArrowException, WorkDirectoryError, UnicodeDecodeError) as error:  # the last: a column's name
        cause = error.__cause__ or error
        if isinstance(cause, OSError) and cause.errno:  # the disk's fault and not the file's: pyarrow's have none
            raise
        what = " ".join(str(cause).split())
        raise FileError(
            f"{name}: expected a Parquet file, pyarrow cannot read it: {what}", hint=ASK_UPSTREAM
        ) from error


def _footer(path: Path) -> bytes:
    """Return the end of a file from its footer on, or all of it when its length is not that of a footer."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _ENDING, 0))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(size - _ENDING - length, 0))
        return file.read()
