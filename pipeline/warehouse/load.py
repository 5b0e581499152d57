"""Load one file into one table under a new load_id, then prove that every row arrived.

Rows of a load are invisible until a publication names it. A failed attempt is taken back as far as the warehouse lets
us, and recorded in the ledger; no publication names what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from loguru import logger

from pipeline.errors import (
    ASK_UPSTREAM,
    DuplicateKeyError,
    FileError,
    PipelineError,
    RefusedValueError,
    RowCountError,
    RowDigestError,
    WarehouseError,
)
from pipeline.files.bad_value import find_bad_value
from pipeline.files.checks import check_sha256
from pipeline.files.conversion import Conversion, convert, select, structure
from pipeline.files.parquet import Footer
from pipeline.snapshot import Snapshot
from pipeline.tables import Table
from pipeline.warehouse import MissingTableError, ParquetInsert, RowsRefusedError, Warehouse
from pipeline.warehouse.compare import measure_load
from pipeline.warehouse.ledger import PARTITION_FILTER, LedgerEntry, partition_params, record_load
from pipeline.warehouse.rows import time_ordered_id


@dataclass(frozen=True)
class ProvenFile:
    """A file on disk, and what was proven about it."""

    table: Table
    path: Path
    name: str  #: as the manifest spells it
    sha256: str
    bytes: int
    footer: Footer
    proof: str  #: sha256 or md5
    superseded_by: str
    manifest_sha256: str
    source: str
    content_digest: str | None  #: over the cells, where the manifest lists it


def load_file(
    warehouse: Warehouse, snapshot: Snapshot, file: ProvenFile, report: Callable[[int], None] = lambda _: None
) -> LedgerEntry:
    """Load a file and return the ledger's entry about it.

    Transient faults are tried again, each time under a new load_id. Raises RefusedValueError, RowCountError,
    DuplicateKeyError for what the file holds, FileError when the file is not the one that was proven, and
    WarehouseError.
    """
    return warehouse.retry(lambda: _attempt(warehouse, snapshot, file, report))


def _attempt(warehouse: Warehouse, snapshot: Snapshot, file: ProvenFile, report: Callable[[int], None]) -> LedgerEntry:
    entry = _started(warehouse, snapshot, file)
    try:
        record_load(warehouse, entry)
        if file.footer.columns:
            _insert(warehouse, snapshot, file, entry, report)
        row_count, content_digest = _compare(warehouse, snapshot, file, entry.load_id)
    except BaseException as error:
        failed = entry.now("failed", error=f"{type(error).__name__}: {error}")
        _abort_load(warehouse, snapshot, file.table, entry, failed)
        raise
    entry = entry.now("loaded", row_count=row_count, content_digest=content_digest)
    record_load(warehouse, entry)
    return entry


def _started(warehouse: Warehouse, snapshot: Snapshot, file: ProvenFile) -> LedgerEntry:
    now = warehouse.now()
    return LedgerEntry(
        processing_date=snapshot.processing_date,
        window_days=snapshot.window_days,
        table_name=file.table.name,
        load_id=time_ordered_id(now),
        state="started",
        started_at=now,
        manifest_sha256=file.manifest_sha256,
        file_name=file.name,
        file_sha256=file.sha256,
        file_bytes=file.bytes,
        proof=file.proof,
        superseded_by=file.superseded_by,
        source=file.source,
    )


def _insert(
    warehouse: Warehouse, snapshot: Snapshot, file: ProvenFile, entry: LedgerEntry, report: Callable[[int], None]
) -> None:
    conversions = convert(file.table, file.footer.columns)
    insert = insert_of(snapshot, file.table, file.path, conversions, entry.load_id, entry.started_at)
    try:
        sent = warehouse.insert_parquet(insert, query_id=_query_id(entry), report=report)
    except WarehouseError as error:
        if error.transient or isinstance(error, MissingTableError):
            raise
        check_sha256(file.path, file.name, file.sha256)
        raise _refusal(snapshot, file, conversions, error) from None
    if sent != file.sha256:
        raise FileError(
            f"{file.name}: the bytes loaded from {file.path} have SHA-256 {sent}, expected {file.sha256}",
            hint="the file changed on disk; run again: it is fetched again",
        )


def insert_of(
    snapshot: Snapshot,
    table: Table,
    path: Path,
    conversions: Sequence[Conversion],
    load_id: str,
    created_at: datetime,
) -> ParquetInsert:
    """Return the INSERT of a file's rows under a load_id."""
    columns = ", ".join(conversion.column.name for conversion in conversions)
    return ParquetInsert(
        path=path,
        into=f"{{database}}.{table.loads} ({columns})",
        select=select(conversions),
        structure=structure(conversions),
        parameters={
            **partition_params(snapshot, load_id),
            "network": snapshot.network,
            "created_at": int(created_at.timestamp()),
        },
    )


def _refusal(
    snapshot: Snapshot, file: ProvenFile, conversions: tuple[Conversion, ...], error: WarehouseError
) -> PipelineError:
    """Name the value that was refused, or pass on what ClickHouse said. Raises FileError when the file is damaged.

    ClickHouse has many codes for a damaged file, those of a damaged table among them: pyarrow judges, too.
    """
    found = find_bad_value(file.path, file.name, conversions, snapshot)
    if not isinstance(error, RowsRefusedError):
        return error
    if found is None:
        hint = "no single value of the file explains it: report this line; what readers see has not changed"
        return RefusedValueError(f"{file.name}: refused, {error}", hint=hint)
    return RefusedValueError(f"{file.name}: {found}", hint=ASK_UPSTREAM)


def _compare(warehouse: Warehouse, snapshot: Snapshot, file: ProvenFile, load_id: str) -> tuple[int, str]:
    """Return the count and the content digest of the rows that arrived; raise unless they are the file's."""
    row_count, keys, digest = measure_load(warehouse, snapshot, file.table, load_id)
    if row_count != file.footer.rows:
        raise RowCountError(
            f"{file.name}: {row_count} rows arrived in {file.table.loads}, the file has {file.footer.rows}",
            hint="run again; if it stays so, see ClickHouse's log for the load's query",
        )
    if keys != row_count:
        raise DuplicateKeyError(
            f"{file.name}: {row_count - keys} rows repeat a key ({', '.join(file.table.key)}): "
            + _repeated(warehouse, snapshot, file.table, load_id)
            + "; an export without FINAL holds old and new rows while upstream replaces them",
            hint=f"a later export has each key once: {ASK_UPSTREAM}",
        )
    if file.content_digest not in {None, digest}:
        raise RowDigestError(
            f"{file.name}: the rows in {file.table.loads} have digest {digest}, the manifest says "
            f"{file.content_digest}",
            hint="the source and the tables disagree about a value: compare their column types; nothing was published",
        )
    return row_count, digest


@contextmanager
def temporary_load(warehouse: Warehouse, snapshot: Snapshot, file: ProvenFile) -> Iterator[str]:
    """Load a file under a load_id that proves nothing, yield that, and drop the rows in the end.

    The ledger knows of it from the start, so that what is left of it when we are killed can be collected.
    """
    entry = _started(warehouse, snapshot, file)
    try:
        record_load(warehouse, entry)
        if file.footer.columns:
            _insert(warehouse, snapshot, file, entry, lambda _: None)
        yield entry.load_id
    finally:
        _abort_load(warehouse, snapshot, file.table, entry, entry.now("compared"))


def _repeated(warehouse: Warehouse, snapshot: Snapshot, table: Table, load_id: str) -> str:
    """Return a few keys that stand twice, for an error's text."""
    key = ", ".join(table.key)
    rows = warehouse.query(
        f"""
        SELECT toString(tuple({key})), count()
        FROM {{database}}.{table.loads}
        WHERE {PARTITION_FILTER}
        GROUP BY {key}
        HAVING count() > 1
        ORDER BY {key}
        LIMIT 3
        """,
        **partition_params(snapshot, load_id),
    )
    return ", ".join(f"{value} {times} times" for value, times in rows)


def _abort_load(warehouse: Warehouse, snapshot: Snapshot, table: Table, entry: LedgerEntry, ended: LedgerEntry) -> None:
    """Stop the insert, drop its rows, and say in the ledger how it ended; each as far as the warehouse lets us."""
    statement = (
        f"ALTER TABLE {{database}}.{table.loads} DROP PARTITION "
        "({processing_date:Date}, {window_days:UInt16}, {load_id:UUID})"
    )
    undoing: list[Callable[[], None]] = [
        lambda: warehouse.kill(_query_id(entry)),
        lambda: warehouse.execute(statement, **partition_params(snapshot, entry.load_id)),
        lambda: record_load(warehouse, ended),
    ]
    problems = []
    for undo in undoing:
        try:
            undo()
        except PipelineError as problem:
            problems.append(problem)
    if problems:
        logger.bind(load_id=entry.load_id, hint=problems[0].hint).warning(
            "A load that is of no use any more left traces that no reader sees: {}", problems[0]
        )


def _query_id(entry: LedgerEntry) -> str:
    return f"load-{entry.load_id}"
