"""Starts commands; ours as forks of a process that has their modules imported, which takes a second of CPU.

Ours are ``sot-ingest``, and ``luigi --module pipeline.tasks`` as what it becomes. A fork does what a new process would
do: environment, directory, streams and session are the command's own, it calls the entry point, and it ends as an
interpreter does. Only the modules are there already, so what would make one of them another at its import is executed
as it is installed, and so is every other command.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO

#: Variables that the interpreter, luigi and loguru look at once, before a command begins.
LOOKED_AT = ("LUIGI_", "PYTHON", "LOGURU_", "LANG", "LC_")

OUR_LUIGI = ["luigi", "--module", "pipeline.tasks"]


class Command:
    """A command that was started, in a session of its own. What it has of ``subprocess.Popen`` does the same."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path, log: int | None
    ) -> None:
        """Start it. Its log goes to a file descriptor, or else can be read as ``stderr``."""
        self.returncode: int | None = None
        out, stdout = os.pipe()
        err, stderr = os.pipe() if log is None else (None, os.dup(log))
        self._talk, talk = socket.socketpair()
        with talk:
            socket.send_fds(_zygote(), [b"."], [talk.fileno(), stdout, stderr])
        for descriptor in (stdout, stderr):
            os.close(descriptor)
        self.stdout: IO[str] = os.fdopen(out, encoding="utf-8")
        self.stderr: IO[str] | None = os.fdopen(err, encoding="utf-8") if err else None
        self._talk.sendall(json.dumps([command, dict(environment), str(directory)]).encode())
        self._talk.shutdown(socket.SHUT_WR)
        self.pid = int(self._talk.recv(8))

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, or the signal as a negative number. Raises TimeoutError."""
        if self.returncode is None:
            self._talk.settimeout(timeout)
            self.returncode = int(self._talk.recv(8))
            self._talk.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return all that is written until the command, and each process that it leaves, ends. Raises TimeoutError."""
        streams = [self.stdout, *([self.stderr] if self.stderr else [])]
        readers = ThreadPoolExecutor(len(streams))
        texts = list(readers.map(lambda stream: stream.read(), streams, timeout=timeout))
        readers.shutdown()
        for stream in streams:
            stream.close()
        self.wait(timeout)
        return texts[0], "".join(texts[1:])


@cache
def _zygote() -> socket.socket:
    """Return what requests go through; the zygote of this process ends with it."""
    ours, its = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, str(its.fileno())],
        env={"PATH": os.environ["PATH"]},
        cwd="/",  # not where a luigi.cfg is
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[its.fileno()],
        start_new_session=True,
    )
    its.close()
    atexit.register(process.wait)
    atexit.register(ours.close)  # which comes first
    return ours


def serve(channel: socket.socket) -> socket.socket:
    """Fork for each request and tell its pid and how it ended; return in the forks, with where the request is read."""
    running: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    while True:
        ready, _, _ = select.select([channel, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            tell_how_they_ended(running)
        if channel in ready:
            talk, stdout, stderr = receive(channel)
            if not (pid := os.fork()):
                break
            os.close(stdout)
            os.close(stderr)
            running[pid] = talk
            talk.sendall(b"%8d" % pid)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for inherited in (channel, woken, waker, *running.values()):
        inherited.close()
    for descriptor, place in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    return talk


def tell_how_they_ended(running: dict[int, socket.socket]) -> None:
    """Wait for the processes that have ended, and take them out."""
    for pid, status in [os.waitpid(pid, os.WNOHANG) for pid in running]:
        if pid:
            running.pop(pid).sendall(b"%8d" % os.waitstatus_to_exitcode(status))


def receive(channel: socket.socket) -> tuple[socket.socket, int, int]:
    """Return a request: where to talk about it, standard output and error. Ends the process with the channel."""
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 3)
    if not descriptors:
        sys.exit()
    talk, stdout, stderr = descriptors
    return socket.socket(fileno=talk), stdout, stderr


def become(talk: socket.socket) -> Callable[[], object]:
    """Make this fork the process of a command that was asked for, and return the entry point of one of ours."""
    from luigi.configuration import LuigiConfigParser  # noqa: PLC0415  # in the zygote alone

    from pipeline import cli  # noqa: PLC0415
    from pipeline.runs import luigi_command  # noqa: PLC0415

    with talk, talk.makefile() as request:
        command, environment, directory = json.load(request)
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    is_luigi = command[: len(OUR_LUIGI)] == OUR_LUIGI
    if not (is_luigi or command[0] == "sot-ingest") or any(name.startswith(LOOKED_AT) for name in environment):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as subprocess does; Python ignores it
        os.execvp(command[0], command)  # noqa: S606  # no shell is meant
    LuigiConfigParser.reload()  # type: ignore[no-untyped-call]  # with the directory's luigi.cfg
    program = luigi_command.__file__ if is_luigi else str(Path(sys.executable).parent / command[0])
    sys.argv = [program, *command[1:]]
    return (lambda: sys.exit(luigi_command.main())) if is_luigi else cli.main


def end(code: int) -> None:
    """End as an interpreter does, without the time that it takes to clear its memory; return where a stream is gone."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def hasten(*, connect_timeout: float = 10.0, read_timeout: float = 60.0) -> None:
    """Let this process wait hardly at all before it tries again; it tries as often as ever. Times are in seconds."""
    from pipeline import retry  # noqa: PLC0415  # in the command's process alone

    retry.DEFAULT = retry.RetryPolicy(
        first_wait=0.01, longest_wait=0.05, connect_timeout=connect_timeout, read_timeout=read_timeout
    )


if __name__ == "__main__":
    import pipeline

    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        importlib.import_module(module.name)
    late = ("boto3.s3.inject", "clickhouse_driver", "luigi.retcodes")
    for name in (*late, "pyarrow.parquet", "rich.progress"):  # which are imported when they are needed
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork that looks for garbage among the modules would copy all their memory
    main = become(serve(socket.socket(fileno=int(sys.argv[1]))))
    if "TEST_HASTE" in os.environ:
        hasten()
    try:
        main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            end(ended.code or 0)
        raise
