"""A directory served as an S3 bucket, in constant memory: for files that are too large for moto, which keeps them all.

    python -m tests.support.static_s3 DIRECTORY

Prints its URL; then, until it is ended, answers HeadBucket, HeadObject and GetObject, with Range and If-Match, for a
bucket of any name. The kernel sends the bytes: it must not be what a benchmark waits for.
"""

from __future__ import annotations

import contextlib
import re
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class StaticS3(BaseHTTPRequestHandler):
    """Answers for the directory that the server was made with."""

    protocol_version = "HTTP/1.1"
    root = Path()

    def do_HEAD(self) -> None:
        """HeadObject."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """GetObject, or a part of it."""
        self._answer(with_body=True)

    def handle(self) -> None:
        """Answer one connection; a client may hang up whenever it has what it wanted."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def _answer(self, *, with_body: bool) -> None:
        key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        path = self.root / key
        if not key:
            return self._send(200, b"")  # HeadBucket
        if not path.resolve().is_relative_to(self.root) or not path.is_file():
            return self._refuse(404, "NoSuchKey", with_body=with_body)
        facts = path.stat()
        etag, size = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"', facts.st_size
        if self.headers.get("If-Match", etag) != etag:
            return self._refuse(412, "PreconditionFailed", with_body=with_body)
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(part[1]) if part else 0
        end = min(int(part[2]) + 1, size) if part and part[2] else size
        self.send_response(206 if part else 200)
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", formatdate(facts.st_mtime, usegmt=True))
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if with_body:
            with path.open("rb") as file:
                self.connection.sendfile(file, start, end - start)
        return None

    def _refuse(self, status: int, code: str, *, with_body: bool) -> None:
        self._send(status, f"<Error><Code>{code}</Code></Error>".encode() if with_body else b"")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
        """Say nothing."""


def main(directory: str) -> None:
    """Serve until ended."""
    StaticS3.root = Path(directory).resolve()
    with ThreadingHTTPServer(("127.0.0.1", 0), StaticS3) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
