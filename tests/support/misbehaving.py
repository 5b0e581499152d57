"""A network between us and a real S3 API: passes everything on, except where a test plans a fault."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Asked:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    client_port: int

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


@dataclass(frozen=True)
class Answer:
    """What S3 answered, and how much of it arrives."""

    status: int
    headers: dict[str, str]
    body: bytes
    arrives: float = 1.0  #: share of the body; 0 means that not even the status line does
    then: str = "keep"  #: keep, reset (RST), close (FIN) or stall
    chunked: bool = False  #: beside Content-Length, which chunks then override

    def with_headers(self, **changes: str | None) -> Answer:
        """Return it with headers changed, or removed (None); content_range is Content-Range."""
        changed = {name.replace("_", "-"): value for name, value in changes.items()}
        headers = {name: value for name, value in self.headers.items() if name not in changed}
        return replace(self, headers=headers | {name: value for name, value in changed.items() if value is not None})


Fault = Callable[[Answer], Answer]


def refused(status: int, code: str, message: str = "no") -> Fault:
    """S3's own error document; ``code`` "" is an answer without a body."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode() if code else b""
    headers = {"content-type": "application/xml", "content-length": str(len(body))}
    return lambda _: Answer(status, headers, body)


def page(status: int, text: str) -> Fault:
    """What a proxy says in HTML."""
    body = text.encode()
    return lambda _: Answer(status, {"content-type": "text/html", "content-length": str(len(body))}, body)


def broken(then: str, after: float) -> Fault:
    """``reset``, ``close`` or ``stall`` after a share of the body."""
    return lambda answer: replace(answer, arrives=after, then=then)


def resized(difference: int) -> Fault:
    """A body that is consistently longer or shorter than the object."""

    def fault(answer: Answer) -> Answer:
        body = (answer.body + bytes(max(difference, 0)))[: len(answer.body) + difference]
        return replace(answer, body=body).with_headers(content_length=str(len(body)))

    return fault


def chunked(extra: bytes = b"", then: str = "keep") -> Fault:
    """Chunks beside Content-Length, as a proxy may send; the last one is missing unless it keeps."""
    return lambda answer: replace(answer, body=answer.body + extra, chunked=True, then=then)


def headers(**changes: str | None) -> Fault:
    """An answer with other headers."""
    return lambda answer: answer.with_headers(**changes)


@dataclass
class Aim:
    """Faults for what is asked of one object: one each for the next requests, and the last for ever if ``lasting``."""

    method: str
    path: str  #: the end of the path, without the query
    faults: deque[Fault]
    lasting: bool = False
    alone: bool = False  #: the store behind is not asked: it would not understand
    hits: list[str] = field(default_factory=list)  #: paths of the requests that met one

    def take(self, method: str, path: str) -> Fault | None:
        """Return what a request meets, if it is meant."""
        if not self.faults or method != self.method or not path.partition("?")[0].endswith(self.path):
            return None
        self.hits.append(path)
        return self.faults[0] if self.lasting and len(self.faults) == 1 else self.faults.popleft()


class Misbehaving:
    """Forwards to ``upstream`` (host, port); ``asked`` is what came, ``plan`` says what goes wrong.

    Upstream is seen below ``prefix``, a path like ``/minio``; nothing is elsewhere.
    """

    def __init__(self, upstream: tuple[str, int], prefix: str = "") -> None:
        self.upstream = upstream
        self.prefix = prefix
        self.asked: list[Asked] = []
        self.stopped = threading.Event()
        self._plans: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._aims: list[Aim] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.network = self

    @property
    def url(self) -> str:
        """The endpoint to give to a client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.prefix}"

    def plan(self, method: str, *faults: Fault) -> None:
        """Let the next requests of a method meet these faults, one each; the ones after meet none."""
        self._plans[method].extend(faults)

    def aim(self, method: str, path: str, *faults: Fault, lasting: bool = False, alone: bool = False) -> Aim:
        """Let requests of a method for paths with this end meet these faults: see Aim."""
        self._aims.append(Aim(method, path, deque(faults), lasting, alone))
        return self._aims[-1]

    def behave(self) -> None:
        """Forget all that was planned."""
        self._aims.clear()
        self._plans.clear()

    def gets(self) -> list[str | None]:
        """Return the ranges that GET requests asked for."""
        return [asked.range for asked in self.asked if asked.method == "GET"]

    def fault(self, method: str, path: str) -> tuple[Fault | None, bool]:
        """Take the next planned fault, and whether it stands alone."""
        with self._lock:
            for aim in self._aims:
                if fault := aim.take(method, path):
                    return fault, aim.alone
            return self._plans[method].popleft() if self._plans[method] else None, False

    @contextmanager
    def running(self) -> Iterator[Misbehaving]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    network: Misbehaving

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body waits 40 ms for the acknowledgement of the headers
    server: _Server

    def do_GET(self) -> None:
        """Pass the request on, and the answer back as far as planned."""
        network = self.server.network
        asked = {name.lower(): value for name, value in self.headers.items()}
        network.asked.append(Asked(self.command, self.path, asked, self.client_address[1]))
        fault, alone = network.fault(self.command, self.path)
        if not f"{self.path.partition('?')[0]}/".startswith(f"{network.prefix}/"):
            fault, alone = page(404, "nothing is here"), True
        answer = Answer(200, {}, b"") if alone else self._forward(network.upstream)
        self._send(fault(answer) if fault else answer)

    do_HEAD = do_GET  # noqa: N815  # the library's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the same
        """Say nothing."""

    def _forward(self, upstream: tuple[str, int]) -> Answer:
        connection = HTTPConnection(*upstream)
        try:
            path = self.path.removeprefix(self.server.network.prefix) or "/"
            connection.request(self.command, path, headers=dict(self.headers.items()))
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()

    def _send(self, answer: Answer) -> None:
        if answer.arrives > 0:
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name not in {"connection", "transfer-encoding"}:
                    self.send_header(name, value)
            if answer.chunked:
                self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            if self.command != "HEAD":
                self._send_body(answer)
        if answer.then == "stall":
            self.server.network.stopped.wait()
        if answer.then == "reset":
            # Closing what lingers for 0 s sends RST; the server's shutdown() would send FIN first.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        self.close_connection = answer.then != "keep"

    def _send_body(self, answer: Answer) -> None:
        body = answer.body[: int(len(answer.body) * answer.arrives)]
        if answer.chunked:
            end = b"0\r\n\r\n" if answer.then == "keep" else b""
            body = b"%x\r\n%s\r\n%s" % (len(body), body, end)
        self.wfile.write(body)
