"""How a ClickHouse server can be reached: accounts in any letters, IPv6, balancers before it, names that are none."""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from pipeline.clickhouse import ClickHouse
from pipeline.errors import PipelineError, WarehouseError, WarehouseUnavailableError
from pipeline.settings import ServerAddress
from pipeline.warehouse import ROLE, MissingTableError
from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import HASTE, Deployment, ServerReader, a_day, in_bucket, in_directory
from tests.support.front import Front
from tests.support.misbehaving import Misbehaving
from tests.support.s3 import Bucket
from tests.support.snapshots import SnapshotFiles

#: nginx's default; a request line of ours is to stay well below it, for others take less.
NGINX, OURS = 8_192, 2_048

PASSWORDS = [
    "pass€word",
    "pässwörd",
    " spaces at its ends ",
    "co:lo:ns:",
    "quo\"te's`\\",
    "tab\there",
    "%41+&=?#/",
    "🔑",
]


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnClickHouse]:
    """A server with users of any letters."""
    users = {f"user{number}": User(password) for number, password in enumerate(PASSWORDS)}
    with OwnClickHouse(tmp_path_factory.mktemp("accounts"), users=users | {"jürgen_ß": User("ключ")}) as server:
        yield server


def login(server: ClickHouseServer, user: str, password: str, **address: int | str) -> ClickHouse:
    """Return an account on a server, or on what stands before it."""
    where = ServerAddress(**{"host": server.host, "port": server.port, "http_port": server.http_port, **address})  # type: ignore[arg-type]
    return ClickHouse(where, user, SecretStr(password), secure=False, role=ROLE)


def test_one_server_is_looked_for_once(accounts: OwnClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network of a run asks whether several servers answer; that takes eight connections."""
    account, query, asked = login(accounts, accounts.user, accounts.password), ClickHouse.query, list[str]()

    def noted(self: ClickHouse, statement: str, *given: Any) -> list[tuple[Any, ...]]:
        asked.append(statement)
        return query(self, statement, *given)

    monkeypatch.setattr(ClickHouse, "query", noted)
    first = account.servers()
    assert (len(first), len(asked)) == (1, 8)
    assert account.servers() == first
    assert len(asked) == 8


def test_several_servers_are_found_each_time(accounts: OwnClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that one is alone is believed for a while."""
    account, names = login(accounts, accounts.user, accounts.password), itertools.cycle("ab")
    monkeypatch.setattr(ClickHouse, "query", lambda *_: [(next(names),)])
    assert [account.servers() for _ in range(2)] == [{"a", "b"}] * 2


def over_http(account: ClickHouse) -> str:
    """Return who one is over HTTP."""
    return b"".join(account.receive("SELECT currentUser() FORMAT TSVRaw", {})).decode().strip()


def unpinned(account: ClickHouse) -> ClickHouse:
    """Let an account ask over HTTP alone: the native port would refuse it first."""
    vars(account)["_pinned_over_http"] = {}
    return account


@pytest.mark.parametrize("number", range(len(PASSWORDS)))
def test_a_password_may_have_any_characters(number: int, accounts: OwnClickHouse) -> None:
    """The same account is let in on both ports."""
    account = login(accounts, f"user{number}", PASSWORDS[number])
    assert account.query("SELECT currentUser()", {}) == [(f"user{number}",)]
    assert over_http(account) == f"user{number}"


def test_a_user_may_have_any_letters(accounts: OwnClickHouse) -> None:
    """In UTF-8, on both ports."""
    account = login(accounts, "jürgen_ß", "ключ")
    assert account.query("SELECT currentUser()", {}) == [("jürgen_ß",)]
    assert over_http(account) == "jürgen_ß"


def test_a_user_with_a_colon_is_asked_for_by_its_whole_name(accounts: OwnClickHouse) -> None:
    """Basic authentication would end the name at the colon: the server is told the name in its own header."""
    with pytest.raises(WarehouseError, match="jürgen:x: Authentication failed") as error:
        over_http(unpinned(login(accounts, "jürgen:x", "any€")))
    assert "CLICKHOUSE_USER" in error.value.hint


def test_a_refused_login_shows_no_password(accounts: OwnClickHouse) -> None:
    """Nor what it was encoded to."""
    with pytest.raises(WarehouseError) as error:
        over_http(unpinned(login(accounts, "user0", "pass€wort")))
    assert "516" in str(error.value)
    assert not any(part in str(error.value) for part in ("wort", "dXNlcjA6"))


@pytest.fixture
def deployment(server_reader: ServerReader, samples: Path, tmp_path: Path) -> Deployment:
    """The samples, and a ClickHouse server."""
    return Deployment(in_directory(samples), server_reader, tmp_path / "run")


def test_request_lines_are_short(deployment: Deployment, samples: Path, clickhouse: ClickHouseServer) -> None:
    """A whole day goes through a balancer that refuses lines longer than a quarter of nginx's; rows and digests are
    those of the files.
    """
    with Front((clickhouse.host, clickhouse.http_port), longest=OURS).running() as front:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(front.port)
        result = deployment.run(a_day())
    assert result.exit_code == 0, result.stderr
    assert len(front.heads) == 4
    assert max(len(head.partition(b"\r\n")[0]) for head in front.heads) < OURS < NGINX
    files = SnapshotFiles(samples, a_day())
    deployment.assert_readers_see(files)
    for load in deployment.ledger(a_day()):
        assert load["file_sha256"] == hashlib.sha256(files.path(load["table_name"]).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "form", [*(pytest.param(form, marks=pytest.mark.slow) for form in ("::1", "[::1]")), "[::1]:{port}:{http_port}"]
)
def test_a_server_may_have_an_ipv6_address(
    form: str, deployment: Deployment, samples: Path, clickhouse: ClickHouseServer
) -> None:
    """On both ports; doctor, events and errors write it in brackets."""
    with (
        Front((clickhouse.host, clickhouse.port), "::1").running() as native,
        Front((clickhouse.host, clickhouse.http_port), "::1").running() as http,
    ):
        ports = {"port": str(native.port), "http_port": str(http.port)}
        deployment.variables["CLICKHOUSE_HOST"] = form.format(**ports)
        named = "{" in form
        deployment.variables |= {"CLICKHOUSE_PORT": str(native.port), "CLICKHOUSE_HTTP_PORT": str(http.port)}
        if named:
            deployment.variables |= {"CLICKHOUSE_PORT": "", "CLICKHOUSE_HTTP_PORT": ""}
        result = deployment.run(a_day())
        assert result.exit_code == 0, result.stderr
        deployment.assert_readers_see(SnapshotFiles(samples, a_day()))
        doctor = deployment.command("sot-ingest", "doctor", "--json")
    assert f"clickhouse at [::1]:{native.port} and HTTP port {http.port}: version" in doctor.stdout
    deployment.variables |= HASTE
    down = deployment.command("sot-ingest", "status", "--json")
    assert f"clickhouse at [::1]:{native.port}" in down.stdout + down.stderr


def test_the_sot_may_have_an_ipv6_address(own_clickhouse: Callable[..., OwnClickHouse]) -> None:
    """Its URI in messages has brackets; tables are read over both ports."""
    server = own_clickhouse(users={"reader": User("secret €")})
    with (
        Front((server.host, server.port), "::1").running() as native,
        Front((server.host, server.http_port), "::1").running() as http,
    ):
        account = login(server, "reader", "secret €", host="::1", port=native.port, http_port=http.port)
        assert account.query("SELECT 1", {}) == [(1,)]
        assert over_http(account) == "reader"
        assert account.where == f"clickhouse at [::1]:{native.port}"


@pytest.mark.parametrize("host", ["nowhere.invalid", "no_such_host.invalid."])
def test_a_name_that_does_not_resolve_is_said_at_once(host: str, accounts: OwnClickHouse) -> None:
    """On both ports: no such host, and the variable to look at; trying again would not help."""
    account = login(accounts, "user0", "", host=host)
    for ask in (lambda: account.query("SELECT 1", {}), lambda: over_http(account)):
        with pytest.raises(WarehouseError, match="no such host") as error:
            ask()
        assert not error.value.transient
        assert error.value.hint.startswith("check CLICKHOUSE_HOST")


def test_a_resolver_that_does_not_answer_is_asked_again(
    accounts: OwnClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is said of the network, and not of the name."""

    def busy(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", busy)
    account = login(accounts, "user0", "", host="db")
    for ask in (lambda: account.query("SELECT 1", {}), lambda: over_http(account)):
        with pytest.raises(WarehouseUnavailableError, match="Temporary failure in name resolution"):
            ask()


def test_a_run_ends_at_once_without_such_a_host(deployment: Deployment) -> None:
    """One error, and no second attempt, however many are allowed."""
    deployment.variables |= {"CLICKHOUSE_HOST": "nowhere.invalid", "INGESTION_RETRY_ATTEMPTS": "3"}
    started = time.monotonic()
    result = deployment.run(a_day())
    assert time.monotonic() - started < 300  # the delay between two attempts
    assert result.exit_code == 35
    assert "no such host" in result.errors()[0]["message"]
    assert [event for event in result.log() if "next attempt" in event["message"]] == []


@pytest.mark.parametrize("end", ["", pytest.param("/", marks=pytest.mark.slow)])
def test_an_s3_store_may_be_below_a_path(
    end: str, bucket: Bucket, server_reader: ServerReader, samples: Path, tmp_path: Path
) -> None:
    """A day is ingested past a proxy that knows the store below /s3/store only; doctor lists it and asks its clock."""
    bucket.upload(samples)
    address = urlsplit(bucket.endpoint)
    with Misbehaving((str(address.hostname), int(address.port or 0)), prefix="/s3/store").running() as store:
        source = in_bucket(bucket.name, store.url + end)
        deployment = Deployment(source, server_reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})
        result = deployment.run(a_day())
        assert result.exit_code == 0, result.stderr
        found = json.loads(deployment.command("sot-ingest", "doctor", "--json").stdout)["findings"]
    deployment.assert_readers_see(SnapshotFiles(samples, a_day()))
    texts = [each["text"] for each in found if each["check"] in {"source", "clock"}]
    assert any("newest of torus is" in text for text in texts)
    assert any(text.endswith(f" s from {store.url}{end}") for text in texts)


def test_a_missing_database_names_the_variable_that_counts(accounts: OwnClickHouse) -> None:
    """That of the network, where there are several."""
    with pytest.raises(MissingTableError) as error:
        login(accounts, "user0", PASSWORDS[0]).query("SELECT 1 FROM nowhere.nothing", {})
    assert "<NETWORK>_CLICKHOUSE_DATABASE" in error.value.hint
    assert isinstance(error.value, PipelineError)
