"""Serve ClickHouse out of ``libchdb.so``: ``python clickhouse_host.py LIBRARY CONFIG``.

The library is the whole engine behind one C function that takes the arguments of ``clickhouse local``. The
engine opens its ports when it is told to, and serves them for as long as its last query runs.
Ends when standard input does, so that no server outlives a test run that was killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
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


def serve(library: str, config: str) -> None:
    """Run the engine with the configuration at the path ``config``; returns when it fails to start."""
    run = ctypes.CDLL(library).chdb_query_cmdline
    run.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    run.restype = ctypes.c_void_p
    arguments = [b"clickhouse", f"--config-file={config}".encode(), f"--query={SERVE}".encode()]
    run(len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))


if __name__ == "__main__":
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    serve(*sys.argv[1:])
    sys.exit("the engine has ended")
