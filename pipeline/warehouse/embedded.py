"""ClickHouse embedded in this process (chDB): nothing to install or to run, one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import PipelineError, WarehouseError
from pipeline.files.atomic import sha256_of
from pipeline.retry import retry_call
from pipeline.warehouse import PARQUET_SETTINGS, ROLE, ParquetInsert, Replication, Warehouse, fill_names

if TYPE_CHECKING:
    from chdb.session import Session

T = TypeVar("T")

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\b": "\\b", "\f": "\\f"})


class Engine:
    """The engine of this process; its directory belongs to one process."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._session: Session | None = None
        self._process = 0

    def run(self, statement: str, parameters: dict[str, Any], output: str) -> bytes:
        """Run a statement and return its output. Raises WarehouseError, or what its code stands for."""
        try:
            result = self._open().query(statement, output, params=_escaped(parameters))
        except RuntimeError as error:  # chDB's own error is one
            raise self._error(error) from None
        return bytes(result.bytes())

    def close(self) -> None:
        """Let go of the directory."""
        if self._session is not None and self._process == os.getpid():
            self._session.close()
        self._session = None

    def _open(self) -> Session:
        if self._session is not None and self._process != os.getpid():
            raise WarehouseError(
                f"{self.path}: embedded ClickHouse does not survive a fork", hint="run luigi with --workers 1"
            )
        if self._session is None:
            self._session, self._process = self._new_session(), os.getpid()
        return self._session

    def _new_session(self) -> Session:
        try:
            from chdb.session import Session  # noqa: PLC0415  # 0.3 s and 220 MB
        except ImportError as error:
            raise WarehouseError(
                f"WAREHOUSE_PATH={self.path}: chDB is not installed",
                hint="pip install 'sot-ingest[embedded]', or configure CLICKHOUSE_HOST",
            ) from error
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_if_open()
            with contextlib.chdir(self.path):  # it reads config.xml from where it is opened
                session = Session(str(self.path))
            session.query(f"SET {', '.join(f'{name} = {value!r}' for name, value in ROLE.pinned.items())}")
        except (RuntimeError, OSError) as error:
            raise self._error(error) from None
        return session

    def _refuse_if_open(self) -> None:
        """Raise when another process has the directory open; ClickHouse holds a lock on its file ``status``."""
        status = self.path / "status"
        if not status.exists():
            return
        with status.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = " ".join(file.read(200).decode("utf-8", "replace").split())
                raise WarehouseError(
                    f"{self.path}: another process has this embedded ClickHouse open ({owner})",
                    hint="wait until it ends; only one process at a time can use WAREHOUSE_PATH",
                ) from None

    def _error(self, error: Exception) -> PipelineError:
        text = " ".join(str(error).split())
        code = re.search(r"Code: (\d+)\.", text)
        return ROLE.of_code(int(code[1]) if code else 0, text, f"file://{self.path}")


class EmbeddedWarehouse:
    """One network's database in an embedded ClickHouse."""

    def __init__(self, engine: Engine, database: str, default_window: int) -> None:
        self.database = database
        self._default_window = default_window
        self.uri = f"file://{engine.path}#{database}"
        self.replication = Replication("false")
        self.hosts: Sequence[Warehouse] = (self,)
        self.is_replicated = False
        self._engine = engine

    def query(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; see :class:`pipeline.warehouse.Warehouse`."""
        output = self._engine.run(self.named(statement), parameters, "JSONCompact")
        return [tuple(row) for row in json.loads(output)["data"]]

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement once; see :class:`pipeline.warehouse.Warehouse`."""
        self._engine.run(self.named(statement), parameters, "Null")

    def insert_parquet(self, insert: ParquetInsert, *, query_id: str, report: Callable[[int], None]) -> str:  # noqa: ARG002  # the call returns when the query has ended
        """Insert from the file itself, then hash it; see :class:`pipeline.warehouse.Warehouse`."""
        rows = f"file({{file_path:String}}, 'Parquet', {insert.quoted_structure})"
        settings = ", ".join(f"{name} = {value}" for name, value in PARQUET_SETTINGS.items())
        self.execute(
            f"INSERT INTO {insert.into} SETTINGS {settings} {insert.select.replace('{input}', rows)}",
            **insert.parameters,
            file_path=str(insert.path.absolute()),
        )
        return sha256_of(insert.path, report)

    def kill(self, query_id: str) -> None:
        """Do nothing: a query ends before its call returns."""

    def sync(self, *tables: str) -> None:
        """Do nothing: tables are no replicas."""

    def now(self) -> datetime:
        """Return the time by this host's clock."""
        return datetime.now(UTC)

    def answers(self) -> bool:
        """Return that it is here."""
        return True

    def retry(self, call: Callable[[], T]) -> T:
        """Try again; see :class:`pipeline.warehouse.Warehouse`."""
        return retry_call(call)

    def servers(self) -> set[str]:
        """Return this process; see :class:`pipeline.warehouse.Warehouse`."""
        return {self.uri}

    def named(self, statement: str) -> str:
        """Return a statement with the names that it leaves open; see :class:`pipeline.warehouse.Warehouse`."""
        return fill_names(statement, self.database, self._default_window)


def _escaped(parameters: dict[str, Any]) -> dict[str, str]:
    """Write parameters as ClickHouse reads them back: like a field of a TSV file."""
    return {name: str(value).translate(_ESCAPES) for name, value in parameters.items()}
