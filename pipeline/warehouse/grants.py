"""What ClickHouse must grant, for the databases of the configured networks: printed, or applied.

    python -m pipeline.warehouse.grants | clickhouse-client
    python -m pipeline.warehouse.grants --apply --user ingest --password-file /run/secrets/clickhouse_password

``--apply`` runs the statements as CLICKHOUSE_USER, who must be one that may grant; ``--user`` is made if it is not
there, gets the password of the file, and the role for the pipeline, ``--reader`` likewise that for its service. To do
it again changes nothing.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline import logs
from pipeline.clickhouse import ClickHouse
from pipeline.errors import PipelineError
from pipeline.settings import ServerAddress, Settings, get_settings
from pipeline.warehouse import ROLE

#: One database's grants; written for the database torus.
GRANTS = Path(__file__).with_name("grants.sql")

#: ClickHouse takes any name in backticks; these need no care in a shell or a file of variables either.
USER_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")


def grant_statements(database: str) -> list[str]:
    """Return the statements that create the roles, and give them what they need in a database."""
    text = re.sub(r"--.*", "", GRANTS.read_text("utf-8"))
    statements = (" ".join(statement.split()) for statement in text.split(";"))
    return [re.sub(r"\btorus\.", f"`{database}`.", statement) for statement in statements if statement]


def user_statements(user: str, password: str, role: str) -> list[str]:
    """Return the statements that make a user with a role, or give it this password, of which they hold a digest."""
    identified = f"IDENTIFIED WITH sha256_hash BY '{hashlib.sha256(password.encode()).hexdigest()}'"
    return [
        f"CREATE USER IF NOT EXISTS `{user}` {identified}",
        f"ALTER USER `{user}` {identified}",
        f"GRANT {role} TO `{user}`",
    ]


def statements_by_server(chosen: Settings) -> dict[ServerAddress, list[str]]:
    """Return the grants for every configured network's database, by the server that it is on."""
    found: dict[ServerAddress, list[str]] = {}
    for network in chosen.networks:
        for address in chosen.servers(network):
            known = found.setdefault(address, [])
            known += [each for each in grant_statements(chosen.database(network)) if each not in known]
    return found


def apply_grants(chosen: Settings, more: list[str]) -> Iterator[ServerAddress]:
    """Run the grants, and then ``more`` statements, on every server; yield those that are done.

    Raises WarehouseError.
    """
    for address, statements in statements_by_server(chosen).items():
        server = ClickHouse(address, chosen.clickhouse_user, chosen.clickhouse_password, chosen.clickhouse_secure, ROLE)
        for statement in [*statements, *more]:
            server.query(statement, {})
        server.disconnect()
        yield address


def _check_user(_context: click.Context, _parameter: click.Parameter, user: str | None) -> str | None:
    if user is not None and not USER_PATTERN.fullmatch(user):
        raise click.BadParameter(f"{user!r} is not of the form {USER_PATTERN.pattern}")
    return user


_password_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--apply", "is_applied", is_flag=True, help="Run the statements instead of printing them.")
@click.option("--user", callback=_check_user, help="The user to make, who gets the role sot_ingest.")
@click.option("--password-file", type=_password_file, help="File that holds this user's password.")
@click.option("--reader", callback=_check_user, help="The user to make, who gets the role sot_reader.")
@click.option("--reader-password-file", type=_password_file, help="File that holds the reader's password.")
def main(
    is_applied: bool,
    user: str | None,
    password_file: Path | None,
    reader: str | None,
    reader_password_file: Path | None,
) -> None:
    """Print, or run, the GRANT statements for the databases of INGESTION_NETWORKS."""
    logs.protect_streams()
    try:
        chosen = get_settings()
        replicas = chosen.clickhouse_replicated == "true" or any(
            len(chosen.servers(each)) > 1 for each in chosen.networks
        )
        roles = "sot_ingest, sot_replicas" if replicas else "sot_ingest"
        of_users = [
            *_of_user(chosen, "--user", user, password_file, roles),
            *_of_user(chosen, "--reader", reader, reader_password_file, "sot_reader"),
        ]
        if not is_applied:
            _print(chosen, of_users)
            return
        for address in apply_grants(chosen, of_users):
            click.echo(f"Applied the grants on {address.native}")
    except PipelineError as error:
        click.echo(f"{error}\n{error.hint}", err=True)
        sys.exit(2)


def _of_user(chosen: Settings, option: str, user: str | None, password_file: Path | None, role: str) -> list[str]:
    """Return the statements for the user of an option, none without one. Raises click.UsageError."""
    if user is None and password_file is None:
        return []
    if user is None or password_file is None:
        raise click.UsageError(f"{option} and its password file need each other")
    if user == chosen.clickhouse_user:
        raise click.UsageError(f"{option}: {user} is CLICKHOUSE_USER, who makes the grants; name another")
    return user_statements(user, password_file.read_text("utf-8").rstrip("\r\n"), role)


def _print(chosen: Settings, more: list[str]) -> None:
    for address, statements in statements_by_server(chosen).items():
        click.echo(f"-- {address.native}")
        for statement in [*statements, *more]:
            click.echo(f"{statement};")


if __name__ == "__main__":
    main()
