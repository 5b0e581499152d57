"""A real ZooKeeper, for servers that are replicas: Debian's, installed or as ``scripts/torture --cluster`` unpacks it.

``python -m tests.support.zookeeper`` says which one there is, and fails with 2 when it or Java is missing.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.clickhouse import ROOT, free_ports

PLACES = (ROOT / ".cache" / "zookeeper", Path("/usr/share/java"))
JARS = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "netty-all", "metrics-core", "snappy-java")
START_SECONDS = 60.0

#: A session lasts as long as ClickHouse asks for, within 2 to 20 ticks.
_CONFIG = """\
tickTime=500
dataDir={directory}/data
clientPort={port}
clientPortAddress=127.0.0.1
admin.enableServer=false
maxClientCnxns=0
4lw.commands.whitelist=ruok
"""


class ZooKeeper:
    """One server: a process and a directory, which outlives a kill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it on its directory and wait until it answers. Raises OSError, with the end of its log."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config, log = self.directory / "zoo.cfg", self.directory / "log"
        config.write_text(_CONFIG.format(directory=self.directory, port=self.port), "utf-8")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command(), str(config)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise OSError(f"ZooKeeper does not start: {log.read_text('utf-8', errors='replace')[-2_000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"ruok")
                return connection.recv(4) == b"imok"
        except OSError:
            return False

    def kill(self) -> None:
        """End it with KILL, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def command() -> list[str]:
    """Return the command that serves a configuration. Raises LookupError when Java or ZooKeeper is missing."""
    if (java := shutil.which("java")) is None:
        raise LookupError("no java on PATH: install a Java runtime, 11 or later")
    return [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", _jars(), _MAIN]


_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def _jars() -> str:
    for place in PLACES:
        found = [place / f"{name}.jar" for name in JARS]
        if all(path.exists() for path in found):
            return ":".join(map(str, found))
    raise LookupError("no ZooKeeper: scripts/torture --cluster unpacks Debian's; elsewhere install it")


if __name__ == "__main__":
    try:
        sys.stdout.write(" ".join(command()) + "\n")
    except LookupError as missing:
        sys.stderr.write(f"{missing}\n")
        sys.exit(2)
