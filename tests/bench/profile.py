"""The part "where the time of a load goes": the largest table's, from decoding the file alone to all that is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from pydantic import SecretStr

from pipeline.clickhouse import ClickHouse
from pipeline.files.atomic import pieces
from pipeline.files.conversion import convert
from pipeline.files.parquet import read_footer
from pipeline.settings import ServerAddress
from pipeline.tables import BY_NAME
from pipeline.warehouse import PARQUET_SETTINGS, ROLE, ParquetInsert
from pipeline.warehouse.compare import measure_load
from pipeline.warehouse.load import insert_of
from pipeline.warehouse.schema import ensure_schema
from pipeline.warehouse.server import ServerWarehouse
from tests.bench.cost import MB, Spread
from tests.bench.rig import DATABASE, SNAPSHOT, Files, Rig, brought, rig
from tests.support.pages import table

LARGEST = BY_NAME["raw_features"]


@dataclass
class _Taken:
    """What each round took, in seconds."""

    wall: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)


class _Load:
    """One load of the largest table, and parts of it."""

    def __init__(self, made: Rig) -> None:
        server = made.server
        address = ServerAddress(server.host, server.port, server.http_port)
        account = (server.user, SecretStr(server.password), False)
        self._clickhouse = ClickHouse(address, *account, ROLE)
        self.warehouse = ServerWarehouse(self._clickhouse, SNAPSHOT.network, 195)
        ensure_schema(self.warehouse)
        made.make_tables()
        self._made, self._path, self._load_id = made, made.local(LARGEST), str(uuid4())

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        """What is measured, by its title."""
        columns = ", ".join(brought(LARGEST))
        plain = f"SELECT {columns} FROM file('{self._path}', Parquet)"
        floor = f"INSERT INTO {DATABASE}.{LARGEST.name} ({columns}) {plain} SETTINGS max_insert_threads = 2"
        return {
            "decode the file: `file()` on the server, no table": lambda: self._ask(f"{plain} FORMAT Null"),
            "and store the rows: what the floor does": lambda: self._ask(floor),
            "and convert each column explicitly": self._convert,
            "and send the file over HTTP, hashed on the way: the INSERT of LoadTable": self._insert,
            "then count rows and keys, and digest what arrived": self._compare,
            "apart: only receive the file": lambda: self._send("s String", "LineAsString"),
            "apart: and keep it whole, for Parquet is read from its end": lambda: self._send(
                "address String", "Parquet"
            ),
        }

    def _ask(self, statement: str) -> None:
        self._made.ask(statement)

    def _new_load(self) -> ParquetInsert:
        """Return the INSERT of a load that is not there yet, as the pipeline makes it."""
        conversions = convert(LARGEST, read_footer(self._path, self._path.name).columns)
        self._load_id = str(uuid4())
        return insert_of(SNAPSHOT, LARGEST, self._path, conversions, self._load_id, datetime.now(UTC))

    def _convert(self) -> None:
        insert = self._new_load()
        rows = insert.select.replace("{input}", f"file('{self._path}', 'Parquet', {insert.quoted_structure})")
        settings = ", ".join(f"{name} = {value}" for name, value in PARQUET_SETTINGS.items())
        self.warehouse.execute(f"INSERT INTO {insert.into} SETTINGS {settings} {rows}", **insert.parameters)

    def _insert(self) -> None:
        self.warehouse.insert_parquet(self._new_load(), query_id=self._load_id, report=lambda _: None)

    def _send(self, column: str, format_: str) -> None:
        """Send the file and let the server forget what it reads of it."""
        statement = f"INSERT INTO FUNCTION null('{column}') SELECT * FROM input('{column}') FORMAT {format_}"
        settings = {"wait_end_of_query": 1, "input_format_parallel_parsing": 0}
        self._clickhouse.send(statement, {}, settings, pieces(self._path))

    def _compare(self) -> None:
        measure_load(self.warehouse, SNAPSHOT, LARGEST, self._load_id)


def report(files: Files, rounds: int) -> str:
    """Measure, and return the part of the page."""
    taken: dict[str, _Taken] = {}
    for number in range(1, rounds + 1):
        with rig(files, "") as made:
            for title, step in _Load(made).steps.items():
                _take(made, step, taken.setdefault(title, _Taken()))
        sys.stderr.write(f"round {number}: {[round(each.wall[-1], 2) for each in taken.values()]}\n")
    rows = [
        (
            title,
            Spread(tuple(each.wall)).text(2),
            *(f"{Spread(tuple(cpu)).median:.2f}" for cpu in (each.server, each.client)),
        )
        for title, each in taken.items()
    ]
    text = (
        f"{LARGEST.name} alone, {files.path(LARGEST).stat().st_size / MB:.0f} MB, on a server without other work. "
        "Each line does all that the line above does and one thing more; the count follows upon the INSERT. What a "
        "file costs that comes over HTTP, apart: it goes through a socket, and into a buffer that doubles as it grows."
    )
    return f"{text}\n\n{table(('what', 's', 'server CPU s', 'client CPU s'), rows)}"


def _take(made: Rig, step: Callable[[], None], taken: _Taken) -> None:
    server, client, started = made.process.cpu_times(), time.process_time(), time.perf_counter()
    step()
    taken.wall.append(time.perf_counter() - started)
    taken.client.append(time.process_time() - client)
    now = made.process.cpu_times()
    taken.server.append(now.user - server.user + now.system - server.system)
