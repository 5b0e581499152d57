"""Serve ClickHouse out of ``libchdb.so``: ``python clickhouse_host.py LIBRARY CONFIG PORT ENGINE_PORT``.

The library is the whole engine behind one C function that takes the arguments of ``clickhouse local``. The
engine opens its ports when it is told to, and serves them for as long as its last query runs.
Ends when standard input does, so that no server outlives a test run that was killed.

Nothing in the library catches what a native connection raises when it is reset, which a client that is killed does to
it: the engine would abort. So clients connect to PORT, and the engine, on ENGINE_PORT, sees every connection end well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading

SERVE = """
SYSTEM START LISTEN TCP;
SYSTEM START LISTEN HTTP;
SELECT sleepEachRow(1) FROM numbers(100000000)
SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1 FORMAT Null
"""


def end_with_standard_input() -> None:
    """Wait until whoever started us is gone, then end."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def relay(listener: socket.socket, engine_port: int) -> None:
    """Carry every connection to the engine, for as long as the process lives."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=carry, args=(client, engine_port), daemon=True).start()


def carry(client: socket.socket, engine_port: int) -> None:
    """Carry one connection, both ways, until both sides have ended; hang up when the engine does not listen (yet)."""
    with (
        client,
        contextlib.suppress(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", engine_port)) as engine,
    ):
        for end in (client, engine):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=pump, args=(engine, client), daemon=True)
        back.start()
        pump(client, engine)
        back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until ``source`` ends, and say so to ``sink``; what a sink that is gone does not take is thrown away."""
    gone = False
    with contextlib.suppress(OSError):  # a reset is an end
        while data := source.recv(1 << 16):
            if gone:
                continue
            try:
                sink.sendall(data)
            except OSError:
                gone = True
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def serve(library: str, config: str) -> None:
    """Run the engine with the configuration at the path ``config``; returns when it fails to start."""
    run = ctypes.CDLL(library).chdb_query_cmdline
    run.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    run.restype = ctypes.c_void_p
    arguments = [b"clickhouse", f"--config-file={config}".encode(), f"--query={SERVE}".encode()]
    run(len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))


if __name__ == "__main__":
    library, config, port, engine_port = sys.argv[1:]
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", int(port)))
    threading.Thread(target=relay, args=(listener, int(engine_port)), daemon=True).start()
    serve(library, config)
    sys.exit("the engine has ended")
