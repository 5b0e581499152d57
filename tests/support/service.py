"""A running ``sot-ingest serve``, and a client that asks it over HTTP."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import urllib3

from tests.support.deployment import SECONDS, Deployment


@dataclass
class RunningService:
    """The service, and what it logs."""

    url: str
    pid: int
    log: list[str] = field(default_factory=list)
    exit_code: int | None = None
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=250, retries=False))

    def get(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        """Ask for a path; ``if_none_match`` is the header If-None-Match."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request("GET", self.url + path, headers=named, timeout=SECONDS)

    def json(self, path: str, status: int = 200) -> Any:
        """Return an answer's JSON, after a look at its status."""
        answer = self.get(path)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer.data
        return answer.json()


@contextmanager
def serving(deployment: Deployment, *options: str) -> Iterator[RunningService]:
    """Serve on a free port of 127.0.0.1 while the block runs; TERM ends it."""
    process = deployment.start("sot-ingest", "serve", "--port", "0", *options)
    assert process.stderr is not None
    service = RunningService("", process.pid)
    for line in process.stderr:
        service.log.append(line)
        if event := json.loads(line).get("url"):
            service.url = event.rstrip("/")
            break
    rest = process.stderr
    reader = threading.Thread(target=lambda: service.log.extend(rest), daemon=True)  # a full pipe would stop it
    reader.start()
    try:
        yield service
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)
            service.exit_code = process.wait(SECONDS)
        reader.join(SECONDS)
        service.http.clear()
