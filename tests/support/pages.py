"""Pages of docs/ that people write, with parts between markers that a script writes."""

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

from tests.support.clickhouse import PACKAGE, VERSION, engine_command

PACKAGES = ("pyarrow", "boto3", "luigi", "clickhouse-driver")


TEXT = ("not checked", "what", "figure", "to repeat")  #: columns that are no figures


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, figures to the right."""
    lines = ["| " + " | ".join(heading) + " |"]
    lines.append("|" + "|".join("---" if name in {heading[0], *TEXT} else "--:" for name in heading) + "|")
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(page: Path, part: str, text: str, script: str) -> None:
    """Put a part's text between its markers. Raises ValueError when the page has none."""
    begin, end = f"<!-- {part}: written by {script} -->\n", f"<!-- end of {part} -->"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page.name} has no markers for {part}")
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", "utf-8")


def circumstances(command: str, *versions: str) -> str:
    """Return when, on what, with which versions and by which command; nothing that names this machine."""
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 2**30
    ours = [f"Python {platform.python_version()}", clickhouse_version()]
    ours += [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, `{command}`, {cores} cores for everything, {memory:.0f} GiB of memory, "
        f"{platform.system()} {platform.machine()}. {', '.join([*ours, *versions])}."
    )


def clickhouse_version() -> str:
    """Return which ClickHouse the tests start."""
    command = engine_command()
    if command[0] != "sh":
        return f"ClickHouse in {PACKAGE} {VERSION}"
    asked = subprocess.run([command[-1], "local", "--version"], capture_output=True, text=True, check=True)
    return f"ClickHouse {re.findall(r'version ([0-9.]+[0-9])', asked.stdout)[0]}"
