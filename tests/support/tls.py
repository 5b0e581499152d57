"""TLS before a server that speaks none: a certificate of an authority of our own, bytes passed on as they are."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import trustme


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, context: ssl.SSLContext, backend: tuple[str, int]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # closed: the test is over
        try:
            secured = context.wrap_socket(client, server_side=True)
        except OSError:
            continue  # who does not trust the certificate hangs up
        server = socket.create_connection(backend)
        for source, sink in ((secured, server), (server, secured)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


@contextlib.contextmanager
def terminated(authority: trustme.CA, host: str, port: int) -> Iterator[int]:
    """Listen with TLS on a port of 127.0.0.1, which is yielded, and pass everything on to ``host``:``port``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, context, (host, port)), daemon=True).start()
        yield int(listener.getsockname()[1])
