"""docs/performance.md: prose that people write, and parts between markers that the benchmark writes."""

from __future__ import annotations

import subprocess

from tests.bench.ways import PEERS
from tests.support import pages
from tests.support.clickhouse import ROOT

PAGE = ROOT / "docs" / "performance.md"
THEIRS = ("dlt", "clickhouse-connect", "pandas")


def write(part: str, text: str) -> None:
    """Put a part's text into the page."""
    pages.write(PAGE, part, text, "scripts/bench")


def circumstances(command: str) -> str:
    """Return under which circumstances the benchmark measured."""
    return pages.circumstances(command, *(f"{name} {_version_of_peer(name)}" for name in THEIRS))


def _version_of_peer(name: str) -> str:
    code = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    asked = subprocess.run([PEERS, "-c", code], capture_output=True, text=True, check=True)
    return asked.stdout.strip()
