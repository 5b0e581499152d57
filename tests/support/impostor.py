"""What may answer where luigid is expected, and is not luigid."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOGIN = b"<!doctype html>\n<html><title>Please log in</title></html>"

#: By what it is: status, headers, body of every answer, and what an operator is to read of it.
IMPOSTORS: dict[str, tuple[int, dict[str, str], bytes, str]] = {
    "bad gateway": (502, {}, b"<h1>502 Bad Gateway</h1>", "HTTP 502"),
    "a service that is busy": (503, {}, b"", "HTTP 503"),
    "a login page": (200, {"Content-Type": "text/html"}, LOGIN, "Please log in"),
    "a login that is asked for": (401, {"WWW-Authenticate": "Basic"}, b"", "HTTP 401"),
    "nothing there": (404, {}, b"", "HTTP 404"),
    "another service": (200, {"Content-Type": "application/json"}, b'{"status": "ok"}', '"status"'),
    "another service with a response": (200, {}, b'{"response": {"docs": []}}', "not luigid"),
    "a list": (200, {}, b"[]", "not luigid"),
    "no answer's body": (200, {}, b"", "not luigid"),
    "no content": (204, {}, b"", "not luigid"),
    "a redirect": (302, {"Location": "https://login.internal/?next=x"}, b"", "https://login.internal/"),
    "a redirect that keeps the method": (308, {"Location": "https://login.internal/"}, b"", "HTTP 308"),
}


class Impostor(BaseHTTPRequestHandler):
    """Answers everything alike."""

    answer: tuple[int, dict[str, str], bytes, str]

    def do_GET(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status, fields, body, _ = self.answer
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    do_POST = do_HEAD = do_GET  # noqa: N815  # the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's signature
        """Say nothing."""


@contextlib.contextmanager
def answering(name: str, port: int = 0) -> Iterator[int]:
    """Answer as the impostor of this name while the block runs; yield the port."""
    handler = type("Handler", (Impostor,), {"answer": IMPOSTORS[name]})
    ThreadingHTTPServer.allow_reuse_address = True
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()
