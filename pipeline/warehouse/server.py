"""A ClickHouse server: statements over the native port, the bytes of files over the HTTP port.

Native clients cannot send Parquet, and ClickHouse decodes it several times faster than Python can.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import SecretStr

from pipeline.attempts import with_backoff
from pipeline.errors import WarehouseError, WarehouseUnavailableError
from pipeline.files import pieces
from pipeline.settings import ServerAddress
from pipeline.warehouse import (
    PARQUET_SETTINGS,
    WRITE_SETTINGS,
    MissingTableError,
    ParquetInsert,
    error_of_code,
)

if TYPE_CHECKING:
    from clickhouse_driver import Client

CONNECT_SECONDS, ANSWER_SECONDS = 10, 300
_UNAVAILABLE = "see that ClickHouse runs and can be reached; what was proven is kept, run again"


class ServerWarehouse:
    """One network's database on a ClickHouse server."""

    def __init__(self, address: ServerAddress, database: str, *, user: str, password: SecretStr, secure: bool) -> None:
        self.database = database
        self.uri = f"clickhouse://{address.host}:{address.port}/{database}"
        self._address, self._user, self._password, self._secure = address, user, password, secure
        self._clients: dict[int, Client] = {}

    def query(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; see :class:`pipeline.warehouse.Warehouse`."""
        return with_backoff(lambda: self._run(statement, parameters, {}))

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run a statement once; see :class:`pipeline.warehouse.Warehouse`."""
        self._run(statement, parameters, WRITE_SETTINGS)

    def _run(self, statement: str, parameters: dict[str, Any], settings: dict[str, int]) -> list[tuple[Any, ...]]:
        from clickhouse_driver.errors import Error, ServerException  # noqa: PLC0415  # 0.2 s

        client = self._client()
        try:
            rows = client.execute(
                statement.replace("{database}", f"`{self.database}`"), parameters or None, settings=settings
            )
        except ServerException as error:
            raise error_of_code(error.code, _first_line(error.message), self.uri) from None
        except (Error, OSError, EOFError) as error:
            client.disconnect()
            raise self._unavailable(error) from error
        except BaseException:
            client.disconnect()  # an interrupted conversation cannot be taken up again
            raise
        return rows if isinstance(rows, list) else []

    def _client(self) -> Client:
        """Return this process's connection: a forked worker must not share its parent's."""
        from clickhouse_driver import Client  # noqa: PLC0415  # 0.2 s

        if os.getpid() not in self._clients:
            self._clients[os.getpid()] = Client(
                self._address.host,
                port=self._address.port,
                user=self._user,
                password=self._password.get_secret_value(),
                secure=self._secure,
                connect_timeout=CONNECT_SECONDS,
                send_receive_timeout=ANSWER_SECONDS,
                tcp_keepalive=True,
                client_name="sot-ingest",
                settings={"server_side_params": True},
            )
        return self._clients[os.getpid()]

    def insert_parquet(self, insert: ParquetInsert, *, query_id: str, report: Callable[[int], None]) -> str:
        """Stream a file over HTTP and hash it on the way; see :class:`pipeline.warehouse.Warehouse`."""
        digest = hashlib.sha256()

        def body() -> Iterator[bytes]:
            for piece in pieces(insert.path):
                digest.update(piece)
                yield piece
                report(len(piece))

        select = insert.select.replace("{input}", f"input({insert.structure})")
        statement = f"INSERT INTO {insert.into} {select} FORMAT Parquet"
        self._post(statement, insert.parameters, query_id, body())
        return digest.hexdigest()

    def _post(self, statement: str, parameters: dict[str, Any], query_id: str, body: Iterator[bytes]) -> None:
        """Send an INSERT. HTTP 200 can carry an exception, so the header and the body are looked at, too."""
        import urllib3  # noqa: PLC0415

        query = {
            "query": statement.replace("{database}", f"`{self.database}`"),
            "query_id": query_id,
            "wait_end_of_query": 1,
            **PARQUET_SETTINGS,
            **{f"param_{name}": value for name, value in parameters.items()},
        }
        scheme = "https" if self._secure else "http"
        url = f"{scheme}://{self._address.host}:{self._address.http_port}/"
        headers = {"X-ClickHouse-User": self._user, "X-ClickHouse-Key": self._password.get_secret_value()}
        # The first timeout holds for sending, too, and the server may pause reading while it writes a part.
        timeout = urllib3.Timeout(connect=ANSWER_SECONDS, read=PARQUET_SETTINGS["max_execution_time"] + 60)
        try:
            with urllib3.PoolManager(retries=False, timeout=timeout) as http:
                answer = http.request("POST", f"{url}?{urlencode(query)}", body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise self._unavailable(error, port=self._address.http_port) from error
        text = answer.data.decode("utf-8", "replace")
        code = answer.headers.get("X-ClickHouse-Exception-Code") or _code_in(text)
        if code:
            raise error_of_code(int(code), _first_line(text), self.uri)
        if answer.status != 200 or text.strip():
            raise self._unexpected(answer.status, text)

    def kill(self, query_id: str) -> None:
        """Kill the query and wait for its end; see :class:`pipeline.warehouse.Warehouse`."""
        try:
            self.execute("KILL QUERY WHERE query_id = {query_id:String} SYNC", query_id=query_id)
        except MissingTableError:
            return

    def _unavailable(self, error: BaseException, port: int | None = None) -> WarehouseError:
        where = f"clickhouse at {self._address.host}:{port or self._address.port}"
        cause = _root(error)
        if isinstance(cause, ssl.SSLError):
            hint = "check CLICKHOUSE_SECURE, the ports, and the server's certificate"
            return WarehouseError(f"{where}: TLS failed: {cause}", hint=hint)
        if isinstance(cause, socket.gaierror):
            return WarehouseUnavailableError(f"{where}: no such host", hint="check CLICKHOUSE_HOST")
        return WarehouseUnavailableError(
            f"{where}: {type(cause).__name__}: {_first_line(str(cause))}", hint=_UNAVAILABLE
        )

    def _unexpected(self, status: int, text: str) -> WarehouseError:
        message = f"{self._address.host}:{self._address.http_port} answered HTTP {status}: {_first_line(text)[:300]}"
        if status in {429, 502, 503, 504}:
            return WarehouseUnavailableError(message, hint=_UNAVAILABLE)
        return WarehouseError(message, hint="check that CLICKHOUSE_HTTP_PORT is ClickHouse's HTTP port")


def _root(error: BaseException) -> BaseException:
    """Return the first cause of an error."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _first_line(text: str) -> str:
    """Return the message without the server's stack trace and version."""
    text = text.partition("Stack trace:")[0].removeprefix("DB::Exception:").strip()
    return " ".join(text.split())


def _code_in(text: str) -> str | None:
    match = re.search(r"\bCode: (\d+)\. DB::\w*Exception", text)
    return match[1] if match else None
