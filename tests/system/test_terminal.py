"""A terminal of 80 columns and 24 rows: what it shows while a run is at work, and what stays."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.support.deployment import ON_SERVER, SECONDS, Deployment, Reader, in_directory, run_of
from tests.support.snapshots import Bucket, SnapshotFiles

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """A valid snapshot in a directory."""
    return Bucket(tmp_path / "bucket").snapshot()


@pytest.fixture
def deployment(files: SnapshotFiles, reader: Reader, tmp_path: Path) -> Deployment:
    """One network, and a log for people."""
    variables = {"INGESTION_NETWORKS": "torus", "LOG_FORMAT": "text", "TERM": "xterm-256color"}
    return Deployment(in_directory(files.root), reader, tmp_path / "run", variables)


def on_terminal(deployment: Deployment, *command: str) -> str:
    """Run a command whose standard streams are a terminal; return all that it writes to it."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment, directory = deployment.environment, deployment.directory
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, cwd=directory)
    os.close(its)
    written = b""
    try:
        while data := os.read(ours, 65_536):
            written += data
    except OSError:  # as Linux says that nobody writes any more
        pass
    finally:
        os.close(ours)
    assert process.wait(SECONDS) == 0, written
    return written.decode().replace("\r\n", "\n")


@ON_SERVER
def test_a_run_shows_what_runs_and_leaves_a_sum(deployment: Deployment, files: SnapshotFiles) -> None:
    """Also of steps in forked processes; in the end there are short lines of the log, and how it went."""
    shown = on_terminal(deployment, *run_of(files.snapshot), "--workers", "2")
    assert re.search(r"of 1 snapshot .*%", shown)
    assert shown.rindex("╌") < shown.index("1 snapshot in ") < shown.index("Run ended: done")
    assert re.search(r"1 snapshot in \d+ s: 1 published; .* downloaded\n", shown)
    log = [ESCAPE.sub("", line) for line in shown.splitlines()]
    loaded = [line[line.index("Loaded table") :] for line in log if "Loaded table" in line]
    assert sorted(line.split()[4] for line in loaded) == ["address_labels", "alerts", "clusters", "features"]
    assert "sha256" not in shown
    again = on_terminal(deployment, *run_of(files.snapshot))
    assert "1 snapshot in 0 s: nothing was to be done" in again.replace("1 s:", "0 s:")


@ON_SERVER
def test_tables_fit_and_are_plain_where_no_colours_are_wanted(deployment: Deployment, files: SnapshotFiles) -> None:
    """NO_COLOR; each line of every table has 80 characters at most."""
    assert deployment.run(files.snapshot).exit_code == 0
    deployment.variables["NO_COLOR"] = "1"
    day = ("--date", "2025-08-01")
    for command in (("status", *day), ("history", *day), ("plan", *day), ("doctor", "--offline")):
        shown = on_terminal(deployment, "sot-ingest", *command)
        assert max(map(len, ESCAPE.sub("", shown).splitlines())) <= 80, shown
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown), shown
