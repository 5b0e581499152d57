"""Two deployments on one host do not hinder each other."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from tests.support.deployment import Deployment, EmbeddedReader, in_directory, run_of
from tests.support.snapshots import Bucket


def test_the_same_command_runs_once_a_deployment(tmp_path: Path) -> None:
    """While a run waits for its warehouse, another of its deployment exits 10, and one of another does its work."""
    files = Bucket(tmp_path / "bucket").snapshot()
    source, reader = in_directory(files.root), EmbeddedReader(tmp_path / "warehouse")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = {"WAREHOUSE_PATH": "", "CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(silent.getsockname()[1])}
        first = Deployment(source, reader, tmp_path / "first", server)
        waiting = first.start(*run_of(files.snapshot))
        try:
            silent.accept()[0].recv(1)  # the run is under way, and gets no answer
            assert first.run(files.snapshot).exit_code == 10
            assert Deployment(source, reader, tmp_path / "second").run(files.snapshot).exit_code == 0
        finally:
            os.killpg(waiting.pid, signal.SIGKILL)
            waiting.communicate()
