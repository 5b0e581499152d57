"""The real parts that tests share, and the environment that they all start from."""

from __future__ import annotations

import gc
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.warehouse import Warehouse
from pipeline.warehouse.schema import ensure_schema
from tests.support.clickhouse import UNCOMPILED, ClickHouseServer, OwnClickHouse, given_server
from tests.support.deployment import EmbeddedReader, Reader, ServerReader
from tests.support.warehouses import Databases, embedded, on_server

#: The variables that the project, and what it is built on, read. TEST_CLICKHOUSE_* are the tests' own.
_READ = re.compile(
    r"(?!TEST_CLICKHOUSE_)"
    r"((SOT|CLICKHOUSE|INGESTION|WAREHOUSE|LOG|AWS|LUIGI|NOTIFY|REPORT|API)_.*|WORK_PATH|PING_URL|METRICS_PATH|\w+_CLICKHOUSE_.*|BOTO_CONFIG|TZ)"
)

for _name in filter(_READ.fullmatch, tuple(os.environ)):
    del os.environ[_name]  # luigi reads its variables when it is imported, before any fixture can act


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one when all others have ended."""
    items.sort(key=lambda item: not item.path.name.startswith("test_torture"))


def pytest_collection_finish() -> None:
    """Leave the modules that are imported by now out of every search for garbage, which takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take away what a developer's shell, home directory or machine could change a result by."""
    for name in filter(_READ.fullmatch, tuple(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # without credentials boto would ask the network


@pytest.fixture
def samples() -> Path:
    """The directory with a bucket's content: snapshots/… and address-labels/…"""
    return Path(__file__).parent / "samples"


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A running server that all tests share: see ``database_prefix``; for harm, see ``own_clickhouse``."""
    server = given_server(os.environ) or OwnClickHouse(tmp_path_factory.mktemp("clickhouse"), profiles=UNCOMPILED)
    with server:
        yield server


@pytest.fixture
def database_prefix(clickhouse: ClickHouseServer) -> Iterator[str]:
    """What the names of a test's databases on ``clickhouse`` begin with; they are dropped after it.

    Ten characters of ``[a-z][a-z0-9_]*``, so that a network may have such a name too.
    """
    with own_databases(clickhouse) as prefix:
        yield prefix


@contextmanager
def own_databases(clickhouse: ClickHouseServer) -> Iterator[str]:
    """The same for what several tests share."""
    prefix = f"t{secrets.token_hex(4)}_"
    yield prefix
    found = clickhouse.http(f"SELECT name FROM system.databases WHERE startsWith(name, '{prefix}')")
    for name in found.splitlines():
        clickhouse.http(f"DROP DATABASE {name} SYNC")


@pytest.fixture(params=["server", "embedded"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    """Both warehouses, empty."""
    if request.param == "embedded":
        return EmbeddedReader(tmp_path / "warehouse")
    server_reader: ServerReader = request.getfixturevalue("server_reader")
    return server_reader


@pytest.fixture
def server_reader(clickhouse: ClickHouseServer, database_prefix: str) -> ServerReader:
    """The server, for what is the same whatever the warehouse; empty."""
    return ServerReader(clickhouse, database_prefix)


@pytest.fixture(scope="module", params=["server", "embedded"])
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Both warehouses, in this process."""
    if request.param == "embedded":
        opened = embedded(tmp_path_factory.mktemp("databases") / "warehouse")
    else:
        opened = on_server(request.getfixturevalue("clickhouse"))
    with opened as made:
        yield made


@pytest.fixture
def warehouse(databases: Databases) -> Warehouse:
    """A database in the pipeline's shape."""
    made = databases.new()
    ensure_schema(made)
    return made


@pytest.fixture
def own_clickhouse(tmp_path: Path) -> Iterator[Callable[..., OwnClickHouse]]:
    """Start a server for this test alone, to be killed or to have users: ``own_clickhouse(users=…)``."""
    servers: list[OwnClickHouse] = []

    def start(**options: Any) -> OwnClickHouse:
        server = OwnClickHouse(tmp_path / f"clickhouse-{len(servers)}", **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
