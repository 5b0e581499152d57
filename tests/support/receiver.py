"""An HTTP server that keeps what it is sent: a messenger, a monitor."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What was received, and how to answer."""

    port: int = 0
    status: int = 200
    released: threading.Event = field(default_factory=threading.Event)  #: answers wait for it
    received: list[tuple[str, str]] = field(default_factory=list)  #: path, body

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What Apprise's json:// sent, in order."""
        return [json.loads(body) for path, body in list(self.received) if path.startswith("/message")]

    @property
    def pings(self) -> list[str]:
        """What PING_URL's service was asked for, without the key."""
        return [path.removeprefix("/ping/secret-key") for path, _ in list(self.received) if path.startswith("/ping")]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the pipeline at it."""
        return {
            "NOTIFY_URLS": f"json://someone:secret-token@127.0.0.1:{self.port}/message",
            "PING_URL": f"http://127.0.0.1:{self.port}/ping/secret-key",
        }

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                receiver.received.append((self.path, body))
                receiver.released.wait()
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET  # noqa: N815  # http.server's name

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.released.set()
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.port = server.server_address[1]
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield self
            self.released.set()
            server.shutdown()
