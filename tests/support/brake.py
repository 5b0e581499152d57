"""A connection that stands still when a test says so: passes bytes on up to a limit, then holds until released."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Brake:
    """A TCP proxy before ``backend``; each connection may send it ``limit`` bytes, or receive as many, and stops."""

    backend: tuple[str, int]
    limit: int  #: bytes
    upload: bool = True  #: whether the limit is for what the client sends, or for what it receives
    held: threading.Event = field(default_factory=threading.Event)  #: set when a connection stands still
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Brake]:
        """Listen on a port of 127.0.0.1 while the block runs."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            yield self
            self.released.set()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            server = socket.create_connection(self.backend)
            for end in (client, server):  # what waits for more to send takes 40 ms a question
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, limited in ((client, server, self.upload), (server, client, not self.upload)):
                threading.Thread(target=self._pump, args=(source, sink, limited), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(16_384):
                passed += len(data)
                if limited and passed > self.limit and not self.released.is_set():
                    self.held.set()
                    self.released.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
