"""One ClickHouse server: statements over the native port, the bytes of files over the HTTP port.

Native clients can neither send nor receive Parquet, and ClickHouse decodes it several times faster than Python can.
"""

from __future__ import annotations

import base64
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import SecretStr

from pipeline.clickhouse.hints import MISSING, NOT_ALLOWED, REFUSED_ROWS, TRANSIENT, hint_of
from pipeline.errors import PipelineError
from pipeline.settings import ServerAddress

if TYPE_CHECKING:
    import urllib3
    from clickhouse_driver import Client

#: Keeps the driver from making a table of each day of 400 years when it is imported, which takes 0.15 s and 20 MB of
#: every process; it then looks a day up when it meets it (its documentation, "Supported types").
os.environ.setdefault("CLICKHOUSE_DRIVER_LASY_DATE_LUT", "1")

CONNECT_SECONDS, ANSWER_SECONDS, INSERT_SECONDS = 10, 300, 3_600
PIECE = 1 << 20  #: bytes
#: To find out whether one server answers; up to so many seconds apart by chance, for of two processes that connect in
#: turn each may get the same server of two.
CONNECTIONS_TRIED, APART = 8, 0.01
ALONE_SECONDS = 300.0  #: for which it is believed
SERVER_NAME = "concat(hostName(), ' ', toString(serverUUID()), ' ', toString(tcpPort()))"


@dataclass(frozen=True)
class Role:
    """What a server is to us: which errors its faults are, and which variables describe it."""

    variables: str  #: prefix of the variables: CLICKHOUSE or SOT
    database_variable: str  #: as people know it
    grants: str  #: the file that lists what it must grant
    error: type[PipelineError]
    unavailable: type[PipelineError]
    missing: type[PipelineError]
    refused_rows: type[PipelineError]
    pinned: Mapping[str, int | str]  #: settings of every statement: see :mod:`pipeline.clickhouse.pinned`

    def of_code(self, code: int, text: str, where: str) -> PipelineError:
        """Return the error for a ClickHouse exception; ``text`` is its message."""
        message = f"{where}: ClickHouse error {code}: {one_line(text)[:500] or 'no message'}"
        hint = hint_of(code, variables=self.variables, grants=self.grants)
        if code in TRANSIENT:
            return self.unavailable(message, hint=hint)
        if code in MISSING:
            return self.missing(message, hint=f"check {self.database_variable}, and that the table exists")
        if code in REFUSED_ROWS:
            return self.refused_rows(message, hint=hint)
        return self.error(message, hint=hint)

    def of_network(self, error: BaseException, where: str) -> PipelineError:
        """Return the error for a connection that failed."""
        cause = error if isinstance(error, socket.gaierror) else _root(error)
        if isinstance(cause, ssl.SSLError) or "[SSL: " in str(cause):  # the driver keeps only the text
            hint = (
                f"check {self.variables}_SECURE, the ports, and the server's certificate; "
                "SSL_CERT_FILE names the file of a private authority"
            )
            return self.error(f"{where}: TLS failed: {one_line(str(cause))}", hint=hint)
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:  # which is a resolver that is down
            return self.error(f"{where}: no such host", hint=f"check {self.variables}_HOST: its name does not resolve")
        hint = "see that ClickHouse runs and can be reached; what was proven is kept, run again"
        return self.unavailable(f"{where}: {type(cause).__name__}: {one_line(str(cause))}", hint=hint)

    def of_status(self, status: int, text: str, where: str) -> PipelineError:
        """Return the error for an HTTP answer that is not ClickHouse's."""
        message = f"{where} answered HTTP {status}: {one_line(text)[:300]}"
        if status in {429, 502, 503, 504}:
            return self.unavailable(message, hint="something between here and ClickHouse is busy: run again")
        if status == 413:
            hint = "something between here and ClickHouse limits requests: raise it (nginx: client_max_body_size)"
            return self.error(message, hint=hint)
        return self.error(message, hint=f"check that {self.variables}_HTTP_PORT is ClickHouse's HTTP port")


@dataclass(frozen=True)
class ClickHouse:
    """A server and an account on it. Connections are a thread's own, and not shared with a forked worker."""

    address: ServerAddress
    user: str
    password: SecretStr
    secure: bool
    role: Role
    answer_seconds: float = ANSWER_SECONDS  #: how long a query may take
    _clients: dict[tuple[int, int], Client] = field(default_factory=dict, repr=False)
    _alone: list[tuple[float, str]] = field(default_factory=list, repr=False)  #: when one server answered, and which

    @property
    def where(self) -> str:
        """Host and native port, for people."""
        return f"clickhouse at {self.address.native}"

    @property
    def _where_http(self) -> str:
        return f"clickhouse at {self.address.http}"

    def query(
        self, statement: str, parameters: Mapping[str, Any], settings: Mapping[str, int | str] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run a statement once and return its rows. Raises the role's errors."""
        from clickhouse_driver.errors import Error, ServerException  # noqa: PLC0415  # 50 ms

        client = self._client()
        try:
            rows = client.execute(
                statement, dict(parameters) or None, settings={**self.role.pinned, **(settings or {})}
            )
        except ServerException as error:
            raise self.role.of_code(error.code, error.message, self.where) from None
        except (Error, OSError, EOFError) as error:
            raise self._lost(error) from error
        except BaseException:
            client.disconnect()  # an interrupted conversation cannot be taken up again
            raise
        return rows if isinstance(rows, list) else []

    @cached_property
    def _pinned_over_http(self) -> dict[str, int | str]:
        """The pinned settings that this server knows: over HTTP, others are an error."""
        names = "SELECT name FROM system.settings WHERE has({names:Array(String)}, name)"
        rows = self.query(names, {"names": list(self.role.pinned)})
        return {name: self.role.pinned[name] for (name,) in rows}

    def servers(self) -> set[str]:
        """Return the servers that answer at the address: more than one where something before them chooses.

        Each name is a host, a server's own id and its port. One that was alone lately is not looked for again: a run
        asks for each of its networks. Raises the role's errors.
        """
        if self._alone and time.monotonic() < self._alone[-1][0] + ALONE_SECONDS:
            return {self._alone[-1][1]}
        found = set[str]()
        for _ in range(CONNECTIONS_TRIED):
            other = replace(self, _clients={})
            found |= {name for (name,) in other.query(f"SELECT {SERVER_NAME}", {})}
            other.disconnect()
            time.sleep(random.uniform(0, APART))  # noqa: S311  # no secret
        self._alone[:] = [(time.monotonic(), name) for name in found if len(found) == 1]
        return found

    def _lost(self, error: BaseException) -> PipelineError:
        """End the connection and return what its end means."""
        self.disconnect()
        return self.role.of_network(_unresolved(self.address.host) or error, self.where)

    def disconnect(self) -> None:
        """End this thread's connection."""
        self._client().disconnect()

    def refused_settings(self, settings: Iterable[tuple[str, int | str]]) -> dict[str, str]:
        """Return the settings, as ``name = value``, that this user may not send, each with what ClickHouse says.

        Raises the role's errors.
        """
        from clickhouse_driver.errors import Error, ServerException  # noqa: PLC0415  # 50 ms

        refused = {}
        for name, value in settings:
            try:
                self._client().execute("SELECT 1", settings={name: value})
            except ServerException as error:
                if error.code not in NOT_ALLOWED:
                    raise self.role.of_code(error.code, error.message, self.where) from None
                refused[f"{name} = {value!r}"] = one_line(error.message)
            except (Error, OSError, EOFError) as error:
                raise self._lost(error) from error
        return refused

    def _client(self) -> Client:
        from clickhouse_driver import Client  # noqa: PLC0415  # 50 ms

        key = (os.getpid(), threading.get_ident())
        if key not in self._clients:
            self._clients[key] = Client(
                self.address.host,
                port=self.address.port,
                user=self.user,
                password=self.password.get_secret_value(),
                secure=self.secure,
                # The driver trusts certifi's authorities alone; SSL_CERT_FILE is what everything else goes by.
                ca_certs=ssl.get_default_verify_paths().cafile,
                connect_timeout=min(CONNECT_SECONDS, self.answer_seconds),
                send_receive_timeout=self.answer_seconds,
                tcp_keepalive=True,
                client_name="sot-ingest",
                settings={"server_side_params": True},
            )
        return self._clients[key]

    def send(
        self, statement: str, parameters: Mapping[str, Any], settings: Mapping[str, Any], body: Iterator[bytes]
    ) -> None:
        """Send an INSERT with its rows. HTTP 200 can carry an exception: header and body are looked at, too."""
        with self._http(statement, parameters, settings, body) as answer:
            text = answer.read().decode("utf-8", "replace")
        self._check(answer, text)
        if text.strip():
            raise self.role.of_status(answer.status, text, self._where_http)

    def receive(self, statement: str, parameters: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the bytes of a SELECT … FORMAT Parquet as they come, in pieces of at most 1 MiB.

        ClickHouse appends an exception to what it has sent: the bytes are good only when a reader finds them whole.
        Raises the role's errors when the query fails at once or the connection breaks.
        """
        with self._http(statement, parameters, {}, None) as answer:
            if answer.status != 200 or "X-ClickHouse-Exception-Code" in answer.headers:
                self._check(answer, answer.read().decode("utf-8", "replace"))
            yield from answer.stream(PIECE)

    def _check(self, answer: urllib3.BaseHTTPResponse, text: str) -> None:
        code = answer.headers.get("X-ClickHouse-Exception-Code") or _code_in(text)
        if code:
            raise self.role.of_code(int(code), text, self._where_http)
        if answer.status != 200:
            raise self.role.of_status(answer.status, text, self._where_http)

    @contextmanager
    def _http(
        self,
        statement: str,
        parameters: Mapping[str, Any],
        settings: Mapping[str, Any],
        body: Iterator[bytes] | None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        import urllib3  # noqa: PLC0415

        query = {**self._pinned_over_http, **settings, **{f"param_{name}": value for name, value in parameters.items()}}
        url = f"{'https' if self.secure else 'http'}://{self.address.http}/?{urlencode(query)}"
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)
        if body is not None:
            # The first timeout holds for sending, too, and the server may pause reading while it writes a part.
            timeout = urllib3.Timeout(connect=ANSWER_SECONDS, read=INSERT_SECONDS + 60)
        # The statement goes first in the body: proxies refuse a request line of more than 4 to 16 KiB.
        sent = chain([f"{statement}\n".encode()], body or ())
        try:
            with urllib3.PoolManager(retries=False, timeout=timeout) as http:
                answer = http.request("POST", url, body=sent, headers=self._login(), preload_content=False)
                try:
                    yield answer
                finally:
                    answer.close()
        except urllib3.exceptions.HTTPError as error:
            raise self.role.of_network(error, self._where_http) from error

    def _login(self) -> dict[str, str]:
        """Return the headers that log in, as UTF-8.

        ClickHouse trims its own headers, so that a password would lose spaces at its ends; but for Basic
        authentication a user's name ends at the first colon.
        """
        user, password = self.user.encode(), self.password.get_secret_value().encode()
        if b":" in user:  # http.client writes headers as Latin-1
            return {"X-ClickHouse-User": user.decode("latin-1"), "X-ClickHouse-Key": password.decode("latin-1")}
        return {"Authorization": f"Basic {base64.b64encode(user + b':' + password).decode()}"}


def _unresolved(host: str) -> socket.gaierror | None:
    """Return why a name does not resolve, if it does not: the driver keeps only the text."""
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error
    return None


def _root(error: BaseException) -> BaseException:
    """Return the first cause of an error."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def one_line(text: str) -> str:
    """Return a server's message without its stack trace, on one line."""
    return " ".join(text.partition("Stack trace:")[0].removeprefix("DB::Exception:").split())


def _code_in(text: str) -> str | None:
    match = re.search(r"\bCode: (\d+)\. DB::\w*Exception", text)
    return match[1] if match else None
