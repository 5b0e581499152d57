"""Serve ClickHouse out of ``libchdb.so``: ``python clickhouse_host.py LIBRARY CONFIG PORT ENGINE_PORT [EXCHANGE]``.

The library is the whole engine behind one C function that takes the arguments of ``clickhouse local``. The
engine opens its ports when it is told to, and serves them for as long as its last query runs.
Ends when standard input does, so that no server outlives a test run that was killed.

Nothing in the library catches what a native connection raises when it is reset, which a client that is killed does to
it: the engine would abort. So clients connect to PORT, and the engine, on ENGINE_PORT, sees every connection end well.

Replicas fetch parts from each other over HTTP, from the address EXCHANGE, ``host:port``. ``clickhouse local`` does not
register that exchange, though all of its code is in the library: :func:`register_exchange` does.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

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


#: The library that the places below were found in, by the texts and type names that its code refers to.
LIBRARY_SHA256 = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5"
#: Where its functions are: those that look up what ``clickhouse server`` sets at its start, and its two HTTP handlers.
ADDRESS, SCHEME, CREDENTIALS = 337103296, 337103552, 337103168
WEB_TERMINAL, EXCHANGE = 406495936, 406532608
MAY_REPLICATE_DDL, TABLES_POOL, START_POOL = 338203072, 253552064, 253547136

RETURN_RDI = b"\x48\x89\xf8\xc3"  # mov rax, rdi; ret
RETURN_TRUE = b"\xb0\x01\xc3"  # mov al, 1; ret


def register_exchange(library: str, address: str) -> ctypes.Array[ctypes.c_char]:
    """Make the loaded library exchange parts at an address; return what must live as long as it does.

    Five functions are overwritten in this process's memory, none of them about how rows are replicated: three return
    the address, the scheme and an empty login; a handler that a server has for a web terminal, which the configuration
    puts at the address, becomes that of the exchange; and databases of engine Replicated may run their statements.
    """
    if hashlib.sha256(Path(library).read_bytes()).hexdigest() != LIBRARY_SHA256:
        sys.exit(f"{library}: another build than the one whose functions are known: replicas cannot be tested with it")
    base = loaded_at(library)
    host, port = address.rsplit(":", 1)
    write(base + ADDRESS, store_text(0, host) + b"\x66\xc7\x47\x18" + struct.pack("<H", int(port)) + RETURN_RDI)
    write(base + SCHEME, store_text(0, "http") + RETURN_RDI)
    login = ctypes.create_string_buffer(256)  # a current user, a current password and a list of one pair, all empty
    pair = ctypes.addressof(login) + 128
    struct.pack_into("<QQQ", login, 0x30, pair, pair + 48, pair + 48)
    write(base + CREDENTIALS, load_rax(ctypes.addressof(login)) + b"\x31\xd2\xc3")  # xor edx, edx; ret
    write(base + WEB_TERMINAL, load_rax(base + EXCHANGE) + b"\xff\xe0")  # jmp rax
    write(base + MAY_REPLICATE_DDL, RETURN_TRUE)
    pool = ctypes.CFUNCTYPE(ctypes.c_void_p)(base + TABLES_POOL)()
    sizes = (2, 0, 10_000)  # threads, idle threads, tasks that may wait
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_size_t] * 3)(base + START_POOL)(pool, *sizes)
    return login


def loaded_at(library: str) -> int:
    """Return where a loaded library is in memory."""
    path = os.path.realpath(library)
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        if line.endswith(path):
            return int(line.split("-")[0], 16)
    raise LookupError(path)


def write(at: int, code: bytes) -> None:
    """Overwrite code in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    first, end = at & ~4095, (at + len(code) + 4095) & ~4095
    for protection in (7, 5):  # read, write, execute; then without write
        if libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(end - first), protection):
            raise OSError(ctypes.get_errno(), "mprotect")
        if protection == 7:
            ctypes.memmove(at, code, len(code))


def load_rax(value: int) -> bytes:
    """Return the code for mov rax, value."""
    return b"\x48\xb8" + struct.pack("<Q", value)


def store_text(offset: int, text: str) -> bytes:
    """Return the code that makes a short C++ string at rdi + offset: 22 characters at most, then its length."""
    raw = text.encode().ljust(23, b"\0") + bytes([len(text)])
    words = struct.unpack("<QQQ", raw)
    return b"".join(
        load_rax(word) + b"\x48\x89\x47" + bytes([offset + 8 * at])  # mov [rdi + …], rax
        for at, word in enumerate(words)
    )


def serve(library: str, config: str, exchange: str) -> None:
    """Run the engine with the configuration at the path ``config``; returns when it fails to start."""
    engine = ctypes.CDLL(library)
    kept = register_exchange(library, exchange) if exchange else None
    run = engine.chdb_query_cmdline
    run.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    run.restype = ctypes.c_void_p
    arguments = [b"clickhouse", f"--config-file={config}".encode(), f"--query={SERVE}".encode()]
    run(len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))
    del kept


if __name__ == "__main__":
    library, config, port, engine_port, exchange = (*sys.argv[1:], "")[:5]
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", int(port)))
    threading.Thread(target=relay, args=(listener, int(engine_port)), daemon=True).start()
    serve(library, config, exchange)
    sys.exit("the engine has ended")
