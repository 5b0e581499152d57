"""The real parts that tests share, and the environment that they all start from."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from mypy_boto3_s3 import S3Client

from pipeline.warehouse import Warehouse
from pipeline.warehouse.schema import ensure_schema
from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User, given_server
from tests.support.deployment import EmbeddedReader, Reader, ServerReader
from tests.support.warehouses import Databases, embedded, on_server
from tests.torture.site import Ground, ground

REGION = "us-east-1"

#: The variables that the project, and what it is built on, read. TEST_CLICKHOUSE_* are the tests' own.
_READ = re.compile(
    r"(?!TEST_CLICKHOUSE_)"
    r"((SOT|CLICKHOUSE|INGESTION|WAREHOUSE|LOG|AWS|LUIGI|NOTIFY|REPORT)_.*|WORK_PATH|PING_URL|METRICS_PATH|\w+_CLICKHOUSE_.*|BOTO_CONFIG|TZ)"
)

for _name in filter(_READ.fullmatch, tuple(os.environ)):
    del os.environ[_name]  # luigi reads its variables when it is imported, before any fixture can act


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
    server = given_server(os.environ) or OwnClickHouse(tmp_path_factory.mktemp("clickhouse"))
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

    def start(
        *, users: Mapping[str, User] | None = None, timezone: str = "UTC", log_level: str = "warning"
    ) -> OwnClickHouse:
        directory = tmp_path / f"clickhouse-{len(servers)}"
        server = OwnClickHouse(directory, users=users, timezone=timezone, log_level=log_level)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def torture_ground() -> Iterator[Ground]:
    """A server and an S3 API for harm, where readers look less often than ``scripts/torture`` lets them."""
    with ground(pause=1.5) as made:
        yield made


@dataclass(frozen=True)
class Bucket:
    """A bucket that answers over HTTP, and a client that may do everything with it."""

    name: str
    endpoint: str  #: URL
    client: S3Client

    def upload(self, directory: Path) -> None:
        """Store every file under ``directory``; its path in there, with slashes, is the key."""
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                key = path.relative_to(directory).as_posix()
                self.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an S3 API."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket of this test's own; the environment holds credentials for it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # A session of its own: boto3's default one would keep the first test's credentials.
    client = boto3.session.Session().client("s3", endpoint_url=s3, region_name=REGION)
    name = f"test-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name)
    return Bucket(name, s3, client)
