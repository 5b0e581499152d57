"""What may stand before a server: a balancer that takes no long request line, or an IPv6 address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_END_OF_HEAD = b"\r\n\r\n"
_TOO_LONG = b"HTTP/1.1 414 Request-URI Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Front:
    """Passes connections on to ``backend``; with ``longest`` they are HTTP, one request each, whose heads it reads."""

    backend: tuple[str, int]
    host: str = "127.0.0.1"  #: where it listens; ::1 is IPv6
    longest: int | None = None  #: bytes of a request line; nginx takes 8,192, and answers 414 to more
    heads: list[bytes] = field(default_factory=list)  #: of the requests, as they came
    port: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Front]:
        """Listen while the block runs."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.create_server((self.host, 0), family=family) as listener:
            self.port = int(listener.getsockname()[1])
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            yield self

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            begun = b""
            while self.longest is not None and _END_OF_HEAD not in begun:
                if not (data := client.recv(65_536)):
                    return
                begun += data
            if self.longest is not None:
                self.heads.append(begun.partition(_END_OF_HEAD)[0])
                if len(begun.partition(b"\r\n")[0]) > self.longest:
                    client.sendall(_TOO_LONG)
                    return
            with socket.create_connection(self.backend) as server:
                for end in (client, server):  # what waits for more to send takes 40 ms a question
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.sendall(begun)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
