"""pipeline.warehouse.grants: docker/grants.sql for the databases and servers that are configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.clickhouse import ClickHouse
from pipeline.settings import get_settings
from pipeline.warehouse import grants
from tests.support.clickhouse import ClickHouseServer


@pytest.fixture(autouse=True)
def two_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Configure two networks on one server and a third on another."""
    monkeypatch.setenv("SOT_PATH", str(tmp_path))
    monkeypatch.setenv("CLICKHOUSE_HOST", "one")
    monkeypatch.setenv("CLICKHOUSE_USER", "admin")
    monkeypatch.setenv("BITCOIN_CLICKHOUSE_DATABASE", "sot_bitcoin")
    monkeypatch.setenv("TORUS_CLICKHOUSE_HOST", "two:9001")
    get_settings.cache_clear()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """A password with what SQL would need quoting for."""
    (tmp_path / "password").write_text("p@ss'\\` $&\n")
    return tmp_path / "password"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """User, address and statement of all that is sent: the engine of the tests has nowhere to keep users."""
    found: list[tuple[str, str, str]] = []

    def query(server: ClickHouse, statement: str, _parameters: object) -> list[Any]:
        found.append((server.user, server.address.native, statement))
        return []

    monkeypatch.setattr(ClickHouse, "query", query)
    monkeypatch.setattr(ClickHouse, "disconnect", lambda _: None)
    return found


def invoke(*options: str) -> tuple[int, str]:
    """Run the program; return its exit code and what it printed."""
    done = CliRunner().invoke(grants.main, options, env=None)
    return done.exit_code, done.output


def test_statements_are_those_of_one_database() -> None:
    """Roles, and grants on the database in backticks; nothing is left of comments or of the example's name."""
    statements = grants.grant_statements("sot_bitcoin")
    assert statements[0] == "CREATE ROLE IF NOT EXISTS sot_ingest, sot_replicas, sot_reader, sot_analyst"
    assert "GRANT SELECT ON `sot_bitcoin`.raw_alerts TO sot_analyst" in statements
    assert [each for each in statements if "torus" in each or "--" in each or ";" in each] == []


def test_clickhouse_takes_the_statements(clickhouse: ClickHouseServer) -> None:
    """Each is one that its parser knows."""
    for statement in [*grants.grant_statements("torus"), *grants.user_statements("a.user-1", "'", "sot_reader")]:
        quoted = statement.replace("'", "''")
        assert clickhouse.http(f"SELECT formatQuerySingleLine('{quoted}')").startswith(statement.split()[0])


def test_printed_are_all_databases() -> None:
    """Each under its server, the roles once a server."""
    code, printed = invoke()
    assert code == 0
    assert [line for line in printed.splitlines() if line.startswith("--")] == ["-- one:9000", "-- two:9001"]
    assert printed.count("CREATE ROLE") == 2
    first, second = printed.split("-- two:9001")
    assert "ON `ethereum`.raw_alerts TO" in first
    assert "ON `sot_bitcoin`.raw_alerts TO" in first
    assert "ON `torus`.raw_alerts TO" in second
    assert "torus" not in first


def test_applied_makes_the_users_on_every_server(sent: list[tuple[str, str, str]], password_file: Path) -> None:
    """Who may grant logs in; the new users have their roles, and their passwords are in no statement."""
    users = ["--user", "ingest", "--password-file", str(password_file)]
    readers = ["--reader", "reader", "--reader-password-file", str(password_file)]
    code, printed = invoke("--apply", *users, *readers)
    assert (code, printed) == (0, "Applied the grants on one:9000\nApplied the grants on two:9001\n")
    assert {(user, address) for user, address, _ in sent} == {("admin", "one:9000"), ("admin", "two:9001")}
    statements = [statement for _, address, statement in sent if address == "two:9001"]
    assert statements == [
        *grants.grant_statements("torus"),
        *grants.user_statements("ingest", "p@ss'\\` $&", "sot_ingest"),
        *grants.user_statements("reader", "p@ss'\\` $&", "sot_reader"),
    ]
    assert [statement for statement in statements if "p@ss" in statement] == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--user", "ingest"], "--user and its password file need each other"),
        (["--reader-password-file", "FILE"], "--reader and its password file need each other"),
        (["--user", "in`gest", "--password-file", "FILE"], "'in`gest' is not of the form"),
        (["--user", "admin", "--password-file", "FILE"], "admin is CLICKHOUSE_USER"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: list[str], problem: str, sent: list[tuple[str, str, str]], password_file: Path
) -> None:
    """Before anything is sent."""
    code, printed = invoke("--apply", *(option.replace("FILE", str(password_file)) for option in options))
    assert (code, sent) == (2, [])
    assert problem in printed


def test_what_is_wrong_with_the_settings_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its hint, and the exit code for it."""
    monkeypatch.setenv("CLICKHOUSE_PORT", "0")
    get_settings.cache_clear()
    code, printed = invoke("--apply")
    assert code == 2
    assert "CLICKHOUSE_PORT" in printed
