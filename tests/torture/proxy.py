"""A network between the pipeline and a ClickHouse server: passes everything on, except what a case aims a fault at."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from urllib.parse import unquote_plus

from tests.support.clickhouse import ClickHouseServer

PIECE = 1 << 16
_END_OF_HEAD = b"\r\n\r\n"
_END_OF_STREAM = b"\x05"  #: the packet that ends an answer of the native protocol


@dataclass
class Exchange:
    """A statement on its way: an HTTP request with its whole body, or what a native client sent at once."""

    client: socket.socket
    request: bytes
    connect: Callable[[], socket.socket]  #: connects to the server, or returns the connection that there is
    receive: Callable[[socket.socket], bytes]  #: of an answer; nothing when it is over
    is_native: bool

    def ask(self, request: bytes | None = None) -> bytes:
        """Send the request, or another, to the server; return all that it answers."""
        server, answer = self.connect(), b""
        server.sendall(self.request if request is None else request)
        while data := self.receive(server):
            answer += data
            if self.is_native and data.endswith(_END_OF_STREAM):
                break
        return answer

    def send_half(self) -> None:
        """Send an HTTP request with half of its body to the server, and hang up on it.

        Not with RST, which takes away what the server has not read yet: the engine in the library aborts at a request
        whose head it cannot read.
        """
        head, end, body = self.request.partition(_END_OF_HEAD)
        with self.connect() as server:
            server.sendall(head + end + body[: len(body) // 2])

    def reply(self, answer: bytes) -> None:
        """Send an answer to the client."""
        self.client.sendall(answer)

    def reset(self) -> None:
        """Reset the client's connection."""
        reset(self.client)

    def wait_until_given_up(self) -> None:
        """Return when the client has hung up."""
        with contextlib.suppress(OSError):
            self.client.settimeout(60)
            self.client.recv(1)


Act = Callable[[Exchange], None]


@dataclass
class Rule:
    """What becomes of statements that hold all of these words; ``times`` of them at most."""

    is_native: bool
    words: tuple[str, ...]
    act: Act
    times: int
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, is_native: bool, text: str) -> bool:
        """Tell whether a statement is meant, and count it."""
        with self._lock:
            meant = is_native == self.is_native and all(word in text for word in self.words)
            if not meant or self.hits >= self.times:
                return False
            self.hits += 1
            return True


class Proxy:
    """Listens on two ports before a server, which may be restarted; after ``refuse`` on none."""

    def __init__(self, server: ClickHouseServer) -> None:
        self.server = server
        self.rules: list[Rule] = []
        self.ports = [0, 0]  #: native, HTTP
        self._listeners: list[socket.socket] = []
        self._open: set[socket.socket] = set()

    @property
    def variables(self) -> dict[str, str]:
        """What points the pipeline at it."""
        return {"CLICKHOUSE_PORT": str(self.ports[0]), "CLICKHOUSE_HTTP_PORT": str(self.ports[1])}

    def aim(self, *words: str, act: Act, is_native: bool = False, times: int = 1_000) -> Rule:
        """Let this become of statements with these words."""
        self.rules.append(Rule(is_native, words, act, times))
        return self.rules[-1]

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        """Listen while the block runs."""
        self.listen()
        try:
            yield self
        finally:
            self.refuse()

    def listen(self) -> None:
        """Listen, on the same ports as before."""
        for place, carry in enumerate((self._native, self._http)):
            listener = socket.create_server(("127.0.0.1", self.ports[place]))
            self.ports[place] = int(listener.getsockname()[1])
            self._listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, carry), daemon=True).start()

    def refuse(self) -> None:
        """Listen no more, and reset what is open."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which would take one more
            listener.close()
        self._listeners.clear()
        for connection in list(self._open):
            reset(connection)

    def _accept(self, listener: socket.socket, carry: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open.add(client)
            threading.Thread(target=self._carry, args=(client, carry), daemon=True).start()

    def _carry(self, client: socket.socket, carry: Callable[[socket.socket], None]) -> None:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                carry(client)
        finally:
            self._open.discard(client)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()

    def _rule(self, text: str, *, is_native: bool) -> Rule | None:
        return next((rule for rule in self.rules if rule.takes(is_native, text)), None)

    # HTTP: a connection is one request

    def _http(self, client: socket.socket) -> None:
        request = b""
        while not is_whole(request):
            if not (data := client.recv(PIECE)):
                return
            request += data
        head, _, body = request.partition(_END_OF_HEAD)
        request = head + b"\r\nConnection: close" + _END_OF_HEAD + body  # its end is that of the answer
        # The statement goes first in the body, and then comes the file.
        text = unquote_plus(head.partition(b"\r\n")[0].decode()) + body.partition(b"PAR1")[0].decode("utf-8", "replace")
        connect = partial(self._connect, self.server.http_port)
        exchange = Exchange(client, request, connect, lambda server: server.recv(PIECE), is_native=False)
        rule = self._rule(text, is_native=False)
        if rule is None:
            exchange.reply(exchange.ask())
        else:
            rule.act(exchange)

    def _connect(self, port: int) -> socket.socket:
        server = socket.create_connection((self.server.host, port))
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    # Native: a connection is many statements

    def _native(self, client: socket.socket) -> None:
        answers: SimpleQueue[bytes] = SimpleQueue()
        held = threading.Event()  # a rule has the rest of the connection to itself
        with self._connect(self.server.port) as server:
            threading.Thread(target=_pump, args=(server, client, held, answers), daemon=True).start()
            while data := client.recv(PIECE):
                rule = self._rule(data.decode("utf-8", "replace"), is_native=True)
                if rule is None:
                    server.sendall(data)
                    continue
                held.set()
                rule.act(
                    Exchange(client, data + _more(client), lambda: server, lambda _: answers.get(), is_native=True)
                )
                return


def _pump(server: socket.socket, client: socket.socket, held: threading.Event, answers: SimpleQueue[bytes]) -> None:
    """Carry a native server's answers, to a rule once there is one."""
    with contextlib.suppress(OSError):
        while data := server.recv(PIECE):
            if held.is_set():
                answers.put(data)
            else:
                client.sendall(data)
    answers.put(b"")
    if not held.is_set():
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _more(client: socket.socket) -> bytes:
    """Return what belongs to the same statement: the client may send it in several pieces."""
    data = b""
    client.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while piece := client.recv(PIECE):
            data += piece
    client.settimeout(None)
    return data


def is_whole(request: bytes) -> bool:
    """Tell whether an HTTP request with chunks, or with a Content-Length, has arrived."""
    head, found, body = request.partition(_END_OF_HEAD)
    if not found:
        return False
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(fields.get(b"content-length", b"0"))


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
