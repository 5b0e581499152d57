"""What every program here is told and answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Job:
    """A snapshot's files, a server, tables to fill. Needs no package, for each program has its own."""

    host: str
    port: int
    http_port: int
    user: str
    password: str
    database: str
    files: dict[str, str]  #: table to path
    columns: dict[str, list[str]]  #: table to the columns that its file brings and the table stores
    urls: dict[str, str] = field(default_factory=dict)  #: table to URL of its file on the S3 server
    sha256: dict[str, str] = field(default_factory=dict)  #: table to the digest that the manifest lists
    statements: list[str] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)  #: seconds, by what they were spent on

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to a part."""
        started = time.perf_counter()
        yield
        self.parts[name] = self.parts.get(name, 0) + time.perf_counter() - started

    def answer(self) -> None:
        """Print the parts."""
        sys.stdout.write(json.dumps(self.parts))


def given() -> Job:
    """Read the job from standard input."""
    values: dict[str, Any] = json.load(sys.stdin)
    return Job(**values)
