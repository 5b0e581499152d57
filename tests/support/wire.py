"""A network between two processes that can be cut: a TCP relay of our own, which works without root and everywhere."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Wire:
    """Listens before ``backend``. While it is cut, nothing passes, without an error, as where packets are lost.

    What was sent meanwhile arrives when the wire is whole again, unless an end has given up, as TCP does it.
    """

    backend: tuple[str, int]
    host: str = "127.0.0.1"  #: where it listens
    port: int = 0
    _whole: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[Wire]:
        """Listen while the block runs."""
        self.mend()
        with socket.create_server((self.host, self.port)) as listener:
            self.port = int(listener.getsockname()[1])
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
                self.mend()

    def cut(self) -> None:
        """Let nothing pass any more."""
        self._whole.clear()

    def mend(self) -> None:
        """Let everything pass."""
        self._whole.set()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self._whole.wait()
            with socket.create_connection(self.backend) as server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._whole.wait()
                sink.sendall(data)
        self._whole.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
