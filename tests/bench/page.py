"""docs/performance.md: prose that people write, and parts between markers that the benchmark writes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.bench.ways import PEERS
from tests.support.clickhouse import PACKAGE, ROOT, VERSION, engine_command

PAGE = ROOT / "docs" / "performance.md"
OURS, THEIRS = ("pyarrow", "boto3", "luigi", "clickhouse-driver"), ("dlt", "clickhouse-connect", "pandas")


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, all but the first and, if it is text, the last column to the right."""
    lines = ["| " + " | ".join(heading) + " |"]
    lines.append("|" + "|".join("---" if name in {heading[0], "not checked"} else "--:" for name in heading) + "|")
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(part: str, text: str, page: Path = PAGE) -> None:
    """Put a part's text between its markers. Raises ValueError when the page has none."""
    begin, end = f"<!-- {part}: written by scripts/bench -->\n", f"<!-- end of {part} -->"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page.name} has no markers for {part}")
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", "utf-8")


def circumstances(command: str) -> str:
    """Return when, on what, with which versions and by which command; nothing that names this machine."""
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 2**30
    versions = [f"Python {platform.python_version()}", _clickhouse()]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in OURS]
    versions += [f"{name} {_version_of_peer(name)}" for name in THEIRS]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, `{command}`, {cores} cores shared by client, server and S3 server, "
        f"{memory:.0f} GiB of memory, {platform.system()} {platform.machine()}. {', '.join(versions)}."
    )


def _clickhouse() -> str:
    command = engine_command()
    if command[0] != "sh":
        return f"ClickHouse in {PACKAGE} {VERSION}"
    asked = subprocess.run([command[-1], "local", "--version"], capture_output=True, text=True, check=True)
    return f"ClickHouse {re.findall(r'version ([0-9.]+[0-9])', asked.stdout)[0]}"


def _version_of_peer(name: str) -> str:
    code = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    asked = subprocess.run([PEERS, "-c", code], capture_output=True, text=True, check=True)
    return asked.stdout.strip()
