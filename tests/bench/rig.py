"""The parts that a measurement runs against: files, an S3 server, and a ClickHouse server that is new each time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import urllib3

from pipeline.demo.bucket import Rows
from pipeline.demo.values import file_columns
from pipeline.files.digest import content_digest
from pipeline.tables import TABLES, Table, schema_sql
from tests.bench.memory import served, written
from tests.support.clickhouse import ROOT, ClickHouseError, OwnClickHouse
from tests.support.deployment import a_day

CACHE = ROOT / ".cache" / "bench"
SNAPSHOT = a_day()
DATABASE = "bench"  #: of the other ways' tables; the pipeline has the network's
QUICK = 20  #: how many times smaller everything is with --quick

Facts = tuple[int, str]  #: rows and content digest of a table


def rows_of(features: int) -> Rows:
    """Return the counts of a snapshot as large as upstream's largest, or in proportion to it."""
    return Rows(features, features // 5, features // 20, features // 2)


@dataclass(frozen=True)
class Files:
    """Snapshots in upstream's format, made from a seed and kept; :meth:`key` and the like are about the first day's."""

    root: Path  #: the bucket
    days: Sequence[date] = (SNAPSHOT.processing_date,)

    @classmethod
    def of(cls, features: int, days: int = 1) -> Files:
        """Return a bucket with so many features rows a day; see :func:`tests.bench.memory.written`."""
        rows = rows_of(features)
        dates = [SNAPSHOT.processing_date + timedelta(days=after) for after in range(days)]
        counts = [f"--{table.stem.replace('_', '-')}={getattr(rows, table.stem)}" for table in TABLES]
        which = ("--networks", SNAPSHOT.network, "--dates", ",".join(map(str, dates)))
        return cls(written(CACHE, *which, *counts), dates)

    def key(self, table: Table) -> str:
        """Return a table's file, relative to the bucket."""
        return SNAPSHOT.shared_labels_key if table.shared else f"{SNAPSHOT.folder}/{table.file_names[0]}"

    def path(self, table: Table) -> Path:
        """Return a table's file."""
        return self.root / self.key(table)

    @property
    def bytes(self) -> int:
        """Bytes of the four files."""
        return sum(self.path(table).stat().st_size for table in TABLES)


def brought(table: Table) -> list[str]:
    """Return the columns that the table's file brings and the table stores."""
    stored = {column.name for column in table.file_columns}
    return [column.name for column in file_columns(table) if column.name in stored]


@dataclass
class Rig:
    """One measurement's parts. Tables of the other ways are the pipeline's, in a database of their own."""

    files: Files
    s3: str  #: URL of the S3 server
    server: OwnClickHouse
    directory: Path  #: of this measurement alone
    watched: bool  #: look at the memory

    @property
    def process(self) -> psutil.Process:
        """The server's process."""
        return psutil.Process(self.server.pid)

    def local(self, table: Table) -> Path:
        """Return a table's file where the server may read it."""
        return self.server.directory / "data" / "user_files" / f"{table.name}.parquet"

    def ask(self, statement: str) -> str:
        """Run a statement, however long it takes. Raises ClickHouseError."""
        headers = {"X-ClickHouse-User": self.server.user, "X-ClickHouse-Key": self.server.password}
        url = f"http://{self.server.host}:{self.server.http_port}/"
        answer = urllib3.request("POST", url, body=statement.encode(), headers=headers, timeout=3_600, retries=False)
        if answer.status != 200:
            raise ClickHouseError(answer.data.decode("utf-8", "replace"))
        return answer.data.decode()

    def make_tables(self, prefix: str = "") -> None:
        """Create empty tables, in shape and settings those of the pipeline."""
        self.ask(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        for table in TABLES:
            made = schema_sql(table.loads).replace(f"{{database}}.{table.loads}", f"{DATABASE}.{prefix}{table.name}")
            self.ask(made)

    def facts(self, source: str) -> dict[str, Facts]:
        """Return rows and digest of each table; ``source`` has ``{table}`` for its name."""
        return {table.name: self._facts(table, source.format(table=table.name), {}) for table in TABLES}

    def facts_of_files(self) -> dict[str, Facts]:
        """Return what every way must arrive at: the files' own cells, in the tables' types."""
        found = {}
        for table in TABLES:
            casts = {column.name: f"CAST({column.name}, '{column.type}')" for column in table.file_columns}
            found[table.name] = self._facts(table, f"file('{self.local(table)}', Parquet)", casts)
        return found

    def _facts(self, table: Table, source: str, values: dict[str, str]) -> Facts:
        there = set(brought(table))
        constants = {column.name: "0" for column in table.file_columns if column.name not in there}
        digest = content_digest(table, {**values, **constants})
        count, found = self.ask(f"SELECT count(), {digest} FROM {source} FORMAT TSV").split()
        return int(count), found


@contextmanager
def rig(files: Files, s3: str, *, watched: bool = False) -> Iterator[Rig]:
    """Start a server that holds nothing and has read the smallest of the files once."""
    with TemporaryDirectory(dir=CACHE, prefix="run-") as name:
        directory = Path(name)
        with OwnClickHouse(directory / "clickhouse") as server:
            made = Rig(files, s3, server, directory, watched)
            for table in TABLES:
                made.local(table).parent.mkdir(parents=True, exist_ok=True)
                os.link(files.path(table), made.local(table))
            smallest = min(TABLES, key=lambda table: files.path(table).stat().st_size)
            made.ask(f"SELECT sum(cityHash64(*)) FROM file('{made.local(smallest)}', Parquet)")
            yield made


@contextmanager
def s3_server(files: Files) -> Iterator[str]:
    """Serve the bucket from a process of its own; yield its URL."""
    with served(files.root) as url:
        yield url
