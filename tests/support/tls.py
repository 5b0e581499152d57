"""TLS before a server that speaks none: a certificate of an authority of our own, bytes passed on as they are."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import trustme


@contextlib.contextmanager
def terminated(authority: trustme.CA, host: str, port: int) -> Iterator[int]:
    """Listen with TLS on a port of 127.0.0.1, which is yielded, and pass everything on to ``host``:``port``.

    One thread does all of it: two must not use the same TLS connection, though one but reads and the other but writes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    started: Future[tuple[int, Callable[[], object]]] = Future()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(host, port)
        with contextlib.suppress(asyncio.CancelledError):  # the test is over
            await asyncio.gather(_pump(reader, requests), _pump(answers, writer))

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        started.set_result((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(over.set)))
        await over.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    listening, end = started.result(timeout=10)
    try:
        yield listening
    finally:
        end()
        thread.join()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # one of the two has hung up
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()
