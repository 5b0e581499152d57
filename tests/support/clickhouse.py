"""A real ClickHouse server for tests.

In order of preference: the server that ``TEST_CLICKHOUSE_HOST`` names, an installed ``clickhouse`` program,
the engine in ``.cache/clickhouse`` that ``scripts/test`` installs. ``python -m tests.support.clickhouse``
says which one there is to start, and fails when there is none.

The engine in ``.cache/clickhouse`` differs from an installed server in this:

- a refused login on the *native* port is answered, and then ends the server: use a server of your own for it;
- so does, with exit status -6 and an empty log, a connection that ends within its greeting (native) or before the head
  of its request is read (HTTP), which a reset can bring about after all of it was sent;
- CREATE USER and GRANT are refused, for there is nowhere to keep users: give users when you make the server;
- TERM ends it at once, as KILL does;
- no system.query_log, and the database ``default`` is an overlay over the server's directory;
- replicas only with a ``keeper``, see its host, and of the build that package-lock.json names;
- the setting ``implicit_select`` is on (``1 + 1`` is a query).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.sax.saxutils import escape

import urllib3
from clickhouse_driver import Client

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "clickhouse"
PACKAGE, VERSION = next(
    iter(json.loads((ROOT / "tests/support/npm/package.json").read_text("utf-8"))["dependencies"].items())
)

#: What the project relies on was measured on 26; an older program on somebody's PATH is passed over.
OLDEST_MAJOR = 26
START_SECONDS, STOP_SECONDS = 60.0, 30.0

#: An address that only replicas use: what is asked of it over HTTP is the exchange of parts.
EXCHANGE_HOST = "127.0.0.2"

#: How long a real Keeper takes a replica for alive that it does not hear of.
SESSION_SECONDS = 4

#: Profiles that every server of ours has, and what makes a setting of one unchangeable: ``{"max_threads const": ""}``.
PROFILES: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "readonly": {"readonly": "1"},
    "small": {"max_memory_usage_for_user": "1000000000"},
}
CONST = " const"

#: For a server that gets small queries: to compile their expressions takes a tenth of the CPU of a run.
UNCOMPILED: Mapping[str, Mapping[str, str]] = {
    "default": dict.fromkeys(("compile_expressions", "compile_aggregate_expressions", "compile_sort_description"), "0")
}


class ClickHouseError(Exception):
    """The server cannot be started, or ended when it should not have."""


@dataclass(frozen=True)
class User:
    """A user of a server; without ``grants`` it may do everything."""

    password: str = field(repr=False)
    grants: tuple[str, ...] = ()  #: for example "GRANT SELECT ON torus.*"
    profile: str = "default"  #: "readonly" may change no setting either, "small" has 1 GB of memory
    filters: Mapping[str, str] = field(default_factory=dict)  #: row policies: conditions by database.table
    quota: str = "default"  #: "spent" allows one query a year


@dataclass(frozen=True)
class Keeper:
    """What a server needs to have replicas: a Keeper, and the address at which the others fetch its parts."""

    port: int | None = None  #: of a ZooKeeper; None: the server has a Keeper in its memory, for tables of its own
    replica: str = "127.0.0.1"  #: its name among the replicas
    exchange_port: int | None = None  #: of EXCHANGE_HOST, of what passes on to the server; None: nothing is between

    @property
    def config(self) -> str:
        """What the configuration says of the Keeper."""
        if self.port is None:
            return "<zookeeper><implementation>testkeeper</implementation></zookeeper>"
        return f"""<zookeeper>
    <node><host>127.0.0.1</host><port>{self.port}</port></node>
    <session_timeout_ms>{SESSION_SECONDS * 1000}</session_timeout_ms>
    <operation_timeout_ms>{SESSION_SECONDS * 1000}</operation_timeout_ms>
    <sessions_path>/clickhouse/sessions/{self.replica}</sessions_path>
  </zookeeper>"""


@dataclass
class ClickHouseServer:
    """A server that answers at an address, and a user of it who may do everything."""

    host: str
    port: int  #: of the native protocol
    http_port: int
    user: str
    password: str = field(repr=False)

    def start(self) -> None:
        """Wait until both ports answer. Raises ClickHouseError when they do not."""
        try:
            self.http("SELECT 1")
            self.execute("SELECT 1")
        except Exception as error:
            raise ClickHouseError(f"ClickHouse at {self.host} does not answer: {error}") from error

    def stop(self) -> None:
        """End the server and keep its data."""

    def kill(self) -> None:
        """End the server as a power cut would, and keep its data."""
        raise ClickHouseError(f"the server at {self.host} is not ours to kill")

    def http(self, sql: str, *, user: str | None = None, password: str | None = None) -> str:
        """Run a statement over HTTP and return the answer as text. Raises ClickHouseError when refused."""
        response = urllib3.request(
            "POST",
            f"http://{self.host}:{self.http_port}/",
            body=sql.encode(),
            headers={
                "X-ClickHouse-User": self.user if user is None else user,
                "X-ClickHouse-Key": self.password if password is None else password,
            },
            retries=False,
            timeout=60,
        )
        text = response.data.decode()
        if response.status != 200 or "X-ClickHouse-Exception-Code" in response.headers:
            raise ClickHouseError(text)
        return text

    def execute(self, sql: str, *, user: str | None = None, password: str | None = None) -> list[tuple[object, ...]]:
        """Run a statement over the native protocol and return its rows; raises clickhouse-driver's errors."""
        client = Client(
            self.host,
            port=self.port,
            user=self.user if user is None else user,
            password=self.password if password is None else password,
            connect_timeout=10,
        )
        try:
            rows: list[tuple[object, ...]] = client.execute(sql)
            return rows
        finally:
            client.disconnect()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class OwnClickHouse(ClickHouseServer):
    """A server of ours: a process, a directory, and the users that it is made with.

    ``user`` is ``ingest``, with a password of characters that need quoting in a URL, a shell, SQL and XML; no
    two servers have the same one. There is also ``default``, without a password.
    """

    def __init__(
        self,
        directory: Path,
        *,
        users: Mapping[str, User] | None = None,
        profiles: Mapping[str, Mapping[str, str]] | None = None,
        more_config: str = "",
        timezone: str = "UTC",
        log_level: str = "warning",
        keeper: Keeper | None = None,
        password: str | None = None,
    ) -> None:
        """Prepare it. With a ``keeper`` tables can be replicas."""
        password = password or f"p@ss'w\"ord#1%2F&<+ {secrets.token_hex(4)}"
        port, http_port, self._hidden_port, exchange_port = free_ports(4)
        super().__init__("127.0.0.1", port, http_port, user="ingest", password=password)
        self.directory = directory.resolve()
        self.users = {"default": User(""), self.user: User(password), **(users or {})}
        self.profiles = {**PROFILES, **(profiles or {})}
        self.more_config = more_config
        self.timezone = timezone
        self.log_level = log_level
        self.keeper = keeper
        self.exchange_port = keeper.exchange_port if keeper and keeper.exchange_port else exchange_port
        self.command = engine_command()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file that holds what the server wrote to its standard output and error."""
        return self.directory / "server.log"

    def queries(self, user: str) -> list[str]:
        """Return the statements of a user, the oldest first, as the server logged them at ``log_level="debug"``."""
        logged = re.compile(rf"executeQuery: \(from \S+, user: {user}(?:, [^)]*)?\) (.*) \(stage: \w+\)$")
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return [match[1] for line in lines if (match := logged.search(line))]

    @property
    def engine_port(self) -> int:
        """Where the engine itself listens: the library does so behind a relay, see its host."""
        return self._hidden_port if self.command[0] == sys.executable else self.port

    @property
    def exchange(self) -> tuple[str, int]:
        """Where the server itself answers the other replicas: the library does so at its HTTP port."""
        return (self.host, self.exchange_port) if self.engine_port == self.port else (EXCHANGE_HOST, self.http_port)

    @property
    def _exchange(self) -> Sequence[str]:
        """Where replicas fetch parts, for the library; a program reads it from its configuration."""
        if self.keeper is None or self.engine_port == self.port:
            return []
        return [f"{EXCHANGE_HOST}:{self.keeper.exchange_port or self.http_port}"]

    @property
    def pid(self) -> int:
        """The process. Raises ClickHouseError when there is none."""
        if self._process is None:
            raise ClickHouseError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server on its directory and wait until both ports answer, at most a minute.

        Raises ClickHouseError, with the end of the log, when it does not.
        """
        if self.running:
            raise ClickHouseError("the server is running already")
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.xml"
        config.write_text(server_config(self), encoding="utf-8")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command, str(config), str(self.port), str(self.engine_port), *self._exchange],
                cwd=self.directory,  # where file('…') looks, and where nobody else's config.xml lies
                # The watchdog would be a second process, between us and the server that we mean to kill.
                env={**os.environ, "TZ": self.timezone, "CLICKHOUSE_WATCHDOG_ENABLE": "0"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops the server
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def stop(self) -> None:
        """End the server with TERM, if it runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with KILL; raises ClickHouseError when it had ended by itself."""
        if not self.running:
            raise ClickHouseError(f"the server was not running; {self.log_tail()}")
        self._end(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send the process a signal, such as those that stop it for a while."""
        os.kill(self.pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)  # does nothing when the process has ended
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ClickHouseError(f"the server did not end within {STOP_SECONDS} s") from None
        finally:
            if process.stdin is not None:
                process.stdin.close()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if not self.running:
                raise ClickHouseError(f"the server ended while it started; {self.log_tail()}")
            try:
                # HTTP first, which opens last. The password tells our server from another one on this port,
                # which a refused login over HTTP does no harm; one on the native port may end it.
                self.http("SELECT 1")
                self.execute("SELECT 1")
            except (urllib3.exceptions.HTTPError, ClickHouseError, OSError, EOFError) as error:
                if time.monotonic() > deadline:
                    raise ClickHouseError(
                        f"the server does not answer after {START_SECONDS} s: {error}; {self.log_tail()}"
                    ) from error
                time.sleep(0.05)
            else:
                return

    def log_tail(self) -> str:
        """Return how the process ended, if it did, and the last lines of the log with its path."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines() if self.log.exists() else []
        status = None if self._process is None else self._process.poll()
        return "\n".join([f"exit status {status}, the end of {self.log}:", *(lines[-30:] or ["(empty)"])])


def given_server(environ: Mapping[str, str]) -> ClickHouseServer | None:
    """Return the server that the environment names in TEST_CLICKHOUSE_*, if it names one."""
    if not (host := environ.get("TEST_CLICKHOUSE_HOST")):
        return None
    return ClickHouseServer(
        host,
        int(environ.get("TEST_CLICKHOUSE_PORT", "9000")),
        int(environ.get("TEST_CLICKHOUSE_HTTP_PORT", "8123")),
        environ.get("TEST_CLICKHOUSE_USER", "default"),
        environ.get("TEST_CLICKHOUSE_PASSWORD", ""),
    )


def free_ports(count: int) -> list[int]:
    """Return TCP ports of the loopback interface that nobody listened on a moment ago."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def engine_command() -> Sequence[str]:
    """Return the command that serves the configuration named by one more argument; a library takes two ports more.

    Raises ClickHouseError when neither a program nor the library is here.
    """
    if program := _installed_program():
        # The shell turns the argument into an option; exec leaves one process, the server, to signal.
        return ("sh", "-c", 'exec "$0" server --config-file="$1"', program)
    if library := _installed_library():
        return (sys.executable, str(Path(__file__).with_name("clickhouse_host.py")), str(library))
    raise ClickHouseError(
        f"no clickhouse {OLDEST_MAJOR} or later on PATH, and no {PACKAGE} {VERSION} in {CACHE}; scripts/test "
        "installs the latter on Linux x86-64 with glibc; elsewhere, install ClickHouse"
    )


def _installed_program() -> str | None:
    if not (program := shutil.which("clickhouse")):
        return None
    asked = subprocess.run([program, "local", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.", asked.stdout)
    return program if found and int(found[1]) >= OLDEST_MAJOR else None


def _installed_library() -> Path | None:
    package = CACHE / "node_modules" / PACKAGE
    try:
        installed = json.loads((package / "package.json").read_text("utf-8"))["version"]
    except FileNotFoundError:
        return None
    return package / "libchdb.so" if installed == VERSION else None


def server_config(server: OwnClickHouse) -> str:
    """Return the XML that a server and the engine in the library both read: addresses, paths, users."""
    data = escape(str(server.directory / "data"))
    users = "".join(_user_config(name, user) for name, user in server.users.items())
    profiles = "".join(_profile_config(name, values) for name, values in server.profiles.items())
    # The library logs everything to the console as soon as it is told to log anything.
    is_quiet = server.engine_port != server.port and server.log_level == "warning"
    logger = "" if is_quiet else f"<level>{server.log_level}</level><console>1</console>"
    return f"""\
<clickhouse>
  <logger>{logger}</logger>
  <listen_host>{server.host}</listen_host>
  <tcp_port>{server.engine_port}</tcp_port>
  <http_port>{server.http_port}</http_port>
  <path>{data}/</path>
  <user_files_path>{data}/user_files/</user_files_path>
  <format_schema_path>{data}/format_schemas/</format_schema_path>
  <user_directories>
    <users_xml><path>{escape(str(server.directory / "config.xml"))}</path></users_xml>
    <local_directory><path>{data}/access/</path></local_directory>
  </user_directories>
  <profiles>{profiles}
  </profiles>
  <quotas><default/><spent><interval><duration>31556952</duration><queries>1</queries></interval></spent></quotas>
  <users>{users}
  </users>
  {_keeper_config(server, server.keeper) if server.keeper else ""}
  {server.more_config}
</clickhouse>
"""


def _keeper_config(server: OwnClickHouse, keeper: Keeper) -> str:
    """Return what lets tables be replicas of each other; the names are those that the default paths have in them.

    A program listens for the exchange at a port of its own, which what is in between has, too, at EXCHANGE_HOST.
    """
    return f"""{keeper.config}
  <macros><shard>01</shard><replica>{keeper.replica}</replica></macros>
  <interserver_listen_host>{server.host}</interserver_listen_host>
  <interserver_http_host>{EXCHANGE_HOST if keeper.exchange_port else server.host}</interserver_http_host>
  <interserver_http_port>{server.exchange_port}</interserver_http_port>
  <listen_host>{EXCHANGE_HOST}</listen_host>
  <http_handlers>
    <rule>
      <methods>POST</methods>
      <full_url>regex:http://{EXCHANGE_HOST}:.*</full_url>
      <handler><type>webterminal</type></handler>
    </rule>
    <defaults/>
  </http_handlers>"""


def _profile_config(name: str, values: Mapping[str, str]) -> str:
    """Return a profile; ``{setting} const`` among its values lets no user of it change that one."""
    settings = {setting: value for setting, value in values.items() if not setting.endswith(CONST)}
    fixed = "".join(
        f"<{each.removesuffix(CONST)}><const/></{each.removesuffix(CONST)}>" for each in values.keys() - settings.keys()
    )
    given = "".join(f"<{setting}>{escape(value)}</{setting}>" for setting, value in settings.items())
    return f"\n    <{name}>{given}{f'<constraints>{fixed}</constraints>' if fixed else ''}</{name}>"


def _user_config(name: str, user: User) -> str:
    filters = "".join(
        f"<{database}><{table}><filter>{escape(condition)}</filter></{table}></{database}>"
        for place, condition in user.filters.items()
        for database, table in [place.split(".")]
    )
    may = "<access_management>1</access_management>"
    if user.grants:
        may = "<grants>" + "".join(f"<query>{escape(grant)}</query>" for grant in user.grants) + "</grants>"
    return f"""
    <{name}>
      <password>{escape(user.password)}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>{user.profile}</profile>
      <quota>{user.quota}</quota>
      <databases>{filters}</databases>
      {may}
    </{name}>"""


if __name__ == "__main__":
    try:
        sys.stdout.write(" ".join(engine_command()) + "\n")
    except ClickHouseError as missing:
        sys.exit(str(missing))
