"""The real luigid, with the settings of our luigi.cfg."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deployment import COMMANDS, SECONDS

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running_luigid(directory: Path, port: int | None = None) -> Iterator[int]:
    """Start luigid, with its state and its log in a directory of its own; yield its port when it answers."""
    port = port or free_port()
    directory.mkdir(exist_ok=True)
    command = [str(COMMANDS / "luigid"), "--address", "127.0.0.1", "--port", str(port), "--state-path", "state.pickle"]
    environment = {"LUIGI_CONFIG_PATH": str(ROOT / "luigi.cfg"), "HOME": str(directory)}
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS
        while not answers(port):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(SECONDS)


def answers(port: int) -> bool:
    """Tell whether luigid answers."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
