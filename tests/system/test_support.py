"""The parts that the other tests stand on are real, and do what they are trusted to do."""

import os
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from pipeline.demo.bucket import MARKER
from tests.support import zookeeper
from tests.support.clickhouse import ClickHouseError, ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import Deployment, EmbeddedReader
from tests.support.s3 import Bucket
from tests.support.snapshots import Bucket as LocalBucket
from tests.support.snapshots import upload
from tests.support.wire import Wire

ROOT = Path(__file__).parents[2]
AUTHENTICATION_FAILED = 516


def test_both_ports_answer(clickhouse: ClickHouseServer) -> None:
    """A native query and an HTTP query reach the same server, 26 or later."""
    assert clickhouse.execute("SELECT 1 + 1") == [(2,)]
    version = clickhouse.http("SELECT version()").strip()
    assert clickhouse.execute("SELECT version()") == [(version,)]
    assert int(version.split(".")[0]) >= 26


def test_a_killed_server_keeps_its_rows(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """What was inserted before KILL is there after a start on the same directory and ports."""
    server = own_clickhouse()
    server.execute("CREATE DATABASE kept")
    server.execute("CREATE TABLE kept.numbers (n UInt64) ENGINE = MergeTree ORDER BY n")
    server.execute("INSERT INTO kept.numbers SELECT number FROM numbers(1000)")
    ports = server.port, server.http_port

    server.kill()
    assert not server.running
    server.start()

    assert (server.port, server.http_port) == ports
    assert server.execute("SELECT count(), sum(n) FROM kept.numbers") == [(1000, 499_500)]


def test_a_stopped_server_keeps_its_rows(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """TERM ends the process; stopping twice is no mistake; the data is there afterwards."""
    server = own_clickhouse()
    server.execute("CREATE DATABASE kept")
    server.stop()
    server.stop()
    assert not server.running
    server.start()
    assert server.execute("SELECT count() FROM system.databases WHERE name = 'kept'") == [(1,)]


def test_a_server_that_ended_cannot_be_killed(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """A test of a crash learns when there was nothing to crash."""
    server = own_clickhouse()
    server.stop()
    with pytest.raises(ClickHouseError, match="was not running"):
        server.kill()


def test_a_server_that_cannot_start_says_why(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """The error holds the end of the server's log."""
    server = own_clickhouse()
    late = OwnClickHouse(server.directory.parent / "late")
    late.port = server.port
    with pytest.raises(ClickHouseError, match="Address already in use"):
        late.start()
    assert not late.running


def test_a_client_that_is_killed_ends_no_server(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """Its connections are reset, in the middle of a query or not; the server lives on."""
    server = own_clickhouse()
    query = "SELECT count(), sleepEachRow(0.1) FROM numbers(20) GROUP BY 2"
    for statement in ("", query):
        client = Client(server.host, port=server.port, user=server.user, password=server.password)
        client.execute("SELECT 1")
        if statement:
            client.connection.send_query(statement)
        client.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.connection.socket.close()  # sends RST
    while server.http("SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.1)%'").strip() != "1":
        assert server.running
    assert server.execute("SELECT 1") == [(1,)]


def test_users_have_passwords_and_grants(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """A user with grants may do what they say and nothing else, on both ports; 'ingest' may do everything."""
    reader = User("re@d'er", grants=("GRANT SELECT ON shown.*",))
    server = own_clickhouse(users={"reader": reader})
    for database in ("shown", "hidden"):
        server.execute(f"CREATE DATABASE {database}")
        server.execute(f"CREATE TABLE {database}.t (n UInt8) ENGINE = MergeTree ORDER BY n")

    assert server.execute("SELECT currentUser()") == [("ingest",)]
    assert server.execute("SELECT count() FROM shown.t", user="reader", password=reader.password) == [(0,)]
    with pytest.raises(ServerException, match="Not enough privileges"):
        server.execute("SELECT count() FROM hidden.t", user="reader", password=reader.password)
    with pytest.raises(ClickHouseError, match="Not enough privileges"):
        server.http("INSERT INTO shown.t VALUES (1)", user="reader", password=reader.password)


def test_a_wrong_password_is_refused_on_both_ports(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """Passwords are checked; the native refusal comes last, for it may end the server."""
    server = own_clickhouse()
    with pytest.raises(ClickHouseError, match="Authentication failed"):
        server.http("SELECT 1", password="wrong")
    with pytest.raises(ServerException) as refused:
        server.execute("SELECT 1", password="wrong")
    assert refused.value.code == AUTHENTICATION_FAILED


def test_a_server_lives_in_the_time_zone_it_is_given(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """Tests can have a server that is not in UTC."""
    server = own_clickhouse(timezone="Asia/Tokyo")
    assert server.execute("SELECT toString(toDateTime(0))") == [("1970-01-01 09:00:00",)]


def test_two_servers_share_nothing(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """Each has its own ports, data and password."""
    first, second = own_clickhouse(), own_clickhouse()
    assert len({first.port, first.http_port, second.port, second.http_port}) == 4
    assert first.password != second.password
    first.execute("CREATE DATABASE of_the_first")
    assert second.execute("SELECT count() FROM system.databases WHERE name = 'of_the_first'") == [(0,)]


def test_passwords_do_not_show(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """A failing assertion prints the server without its password."""
    server = own_clickhouse()
    assert server.password not in repr(server)


def test_database_names_do_not_meet(clickhouse: ClickHouseServer, database_prefix: str) -> None:
    """A test begins without databases of its prefix."""
    clickhouse.execute(f"CREATE DATABASE {database_prefix}torus")
    found = clickhouse.http(f"SELECT name FROM system.databases WHERE startsWith(name, '{database_prefix}')")
    assert found.split() == [f"{database_prefix}torus"]


def test_s3_returns_what_it_was_given(bucket: Bucket, samples: Path) -> None:
    """The bucket holds the samples byte for byte under their relative paths, behind real HTTP."""
    bucket.upload(samples)
    key = "snapshots/torus/2025-08-01/195/META.json"
    stored = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    assert stored == (samples / key).read_bytes()
    listed = bucket.client.list_objects_v2(Bucket=bucket.name)
    assert listed["KeyCount"] == len([path for path in samples.rglob("*") if path.is_file()])

    url = bucket.client.generate_presigned_url("get_object", Params={"Bucket": bucket.name, "Key": key})
    assert url.startswith(f"{bucket.endpoint}/")
    assert urllib3.request("GET", url, timeout=10).data == stored


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_bucket_begins_empty(bucket: Bucket, attempt: int) -> None:
    """What one test stores another does not find."""
    assert bucket.client.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 0
    bucket.client.put_object(Bucket=bucket.name, Key="left", Body=str(attempt).encode())


def test_the_shell_cannot_change_a_result() -> None:
    """No variable that the project reads is set, and the home directory is an empty one of the test's own."""
    prefixes = ("SOT_", "CLICKHOUSE_", "INGESTION_", "WAREHOUSE_", "LOG_", "LUIGI_", "TORUS_CLICKHOUSE_")
    assert not [name for name in os.environ if name.startswith(prefixes) or name == "WORK_PATH"]
    assert [name for name in os.environ if name.startswith("AWS_")] == ["AWS_EC2_METADATA_DISABLED"]
    assert list(Path.home().iterdir()) == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("sot-ingest --help", 0),
        ("sot-ingest status --days none", 2),
        ("sot-ingest status", 2),
        ("luigi --module pipeline.tasks IngestDaily", 2),
        ("luigi --module pipeline.tasks IngestDaily --networks 3", 2),
    ],
)
def test_a_fork_does_what_the_installed_command_does(command: str, code: int, tmp_path: Path) -> None:
    """Exit code, output and log are the same when a variable that luigi reads at its import has it executed."""
    forked = Deployment({}, EmbeddedReader(tmp_path / "warehouse"), tmp_path, {"LOG_FORMAT": "none"})
    executed = replace(forked, variables={**forked.variables, "LUIGI_CONFIG_PATH": str(ROOT / "luigi.cfg")})
    results = [deployment.command(*command.split()) for deployment in (forked, executed)]
    shown = [(result.exit_code, result.stdout, re.sub(r"\d\S+Z ", "", result.stderr)) for result in results]  # no times
    assert shown[0] == shown[1]
    assert results[0].exit_code == code


def test_upload_puts_the_bucket_into_s3(bucket: Bucket, tmp_path: Path) -> None:
    """The layout's keys under the prefix; the demo's own mark stays at home."""
    files = LocalBucket(tmp_path / "bucket").snapshot()
    (files.root / MARKER).touch()
    upload(files.root, bucket.client, bucket.name, "daily/")
    stored = {item["Key"]: item["Size"] for item in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]}
    here = {path.relative_to(files.root): path.stat().st_size for path in files.root.rglob("*") if path.is_file()}
    assert stored == {f"daily/{path}": size for path, size in here.items() if path.name != MARKER}


def test_a_wire_that_is_cut_loses_nothing_and_says_nothing(clickhouse: ClickHouseServer) -> None:
    """What was sent meanwhile arrives when it is whole again, on a connection of before and on a new one."""
    with Wire((clickhouse.host, clickhouse.http_port)).running() as wire:
        ping = b"GET /ping HTTP/1.1\r\nHost: any\r\n\r\n"
        with socket.create_connection(("127.0.0.1", wire.port)) as before:
            before.sendall(ping)
            assert before.recv(1 << 16).startswith(b"HTTP/1.1 200")
            wire.cut()
            with socket.create_connection(("127.0.0.1", wire.port)) as new:
                for connection in (before, new):
                    connection.sendall(ping)
                    connection.settimeout(0.2)
                    with pytest.raises(TimeoutError):
                        connection.recv(1)
                wire.mend()
                for connection in (before, new):
                    connection.settimeout(30)
                    assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_without_java_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who asks for one is told what to install; scripts/torture ends with 2 then."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LookupError, match="install a Java runtime"):
        zookeeper.command()
