"""What a command costs: wall time and CPU, or memory, its own and the server's.

To look at the memory of a command and of all that it started takes up to a third of a core, which on a small machine
the command lacks: memory is of a run of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.bench.memory import memory

SECONDS_BETWEEN = 0.05  #: two looks at the memory
MB = 1_000_000


class RunFailedError(Exception):
    """A command that was to be measured failed."""


@dataclass(frozen=True)
class Cost:
    """One command. Its memory is USS, summed over it and all that it started; the server's is its resident set."""

    seconds: float
    client_cpu: float
    server_cpu: float = 0
    client_bytes: int = 0  #: 0 when nobody looked
    server_bytes: int = 0
    parts: Mapping[str, float] = field(default_factory=dict)  #: seconds within it
    stderr: str = field(default="", repr=False)
    started_at: float = 0  #: seconds since 1970


@dataclass(frozen=True)
class Spread:
    """The same figure of several rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    def text(self, digits: int = 1) -> str:
        """Return median and range, for people."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def cost_of(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    job: Mapping[str, Any] | None = None,
    server: psutil.Process | None = None,
    watched: bool = False,
) -> Cost:
    """Run a command and return what it cost; its memory when it is watched. Raises RunFailedError with its output."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(json.dumps(job).encode())
        given.seek(0)
        cpu_before, server_before = _children_cpu(), _cpu(server)
        started_at, started = time.time(), time.monotonic()
        running = subprocess.Popen(command, env=environment, cwd=directory, stdin=given, stdout=out, stderr=err)
        client_bytes, server_bytes = _watch(running, server) if watched else (0, 0)
        running.wait()
        seconds = time.monotonic() - started
        stdout, stderr = (_all_of(file) for file in (out, err))
        if running.returncode:
            raise RunFailedError(f"{' '.join(command)} ended with {running.returncode}:\n{stdout}{stderr}")
        return Cost(
            seconds=seconds,
            client_cpu=_children_cpu() - cpu_before,
            server_cpu=_cpu(server) - server_before,
            client_bytes=client_bytes,
            server_bytes=server_bytes,
            parts=json.loads(stdout) if job else {},
            stderr=stderr,
            started_at=started_at,
        )


def _watch(running: subprocess.Popen[bytes], server: psutil.Process | None) -> tuple[int, int]:
    """Wait for the command's end and return the highest memory seen, of it and of the server."""
    process, client_bytes, server_bytes = psutil.Process(running.pid), 0, 0
    while True:
        client_bytes = max(client_bytes, memory(process)[0])
        if server is not None:
            server_bytes = max(server_bytes, server.memory_info().rss)
        try:
            running.wait(SECONDS_BETWEEN)
        except subprocess.TimeoutExpired:
            continue
        return client_bytes, server_bytes


def _children_cpu() -> float:
    """Return the CPU seconds of all children that have ended, their own children among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu(process: psutil.Process | None) -> float:
    if process is None:
        return 0
    used = process.cpu_times()
    return float(used.user + used.system)


def _all_of(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))
