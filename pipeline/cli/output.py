"""How the verbs answer: a table that a person reads at a glance, or JSON; and how they ask."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from pipeline.logs import printable

STYLES = {
    **dict.fromkeys(("published", "done", "in order", "fresh", "loaded", "ok"), "green"),
    "rolled back": "magenta",
    **dict.fromkeys(("half done", "unknown", "started", "warning"), "yellow"),
    **dict.fromkeys(("failed", "missing", "too old", "nothing"), "red"),
}
WIDTH = 200  #: columns, where there is no terminal to ask


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know becomes its text."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """Print a table; the columns named in ``right`` hold numbers. A state is shown in its colour."""
    from rich.console import Console  # noqa: PLC0415  # these take 40 ms: not for a run, which prints no table
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in set(right) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell), style=STYLES.get(cell, "")) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)


def duration(seconds: float) -> str:
    """Return a time in the unit that a person would take."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone, unless ``--yes`` said so.

    Raises click.Abort on a no, and click.UsageError where there is no terminal to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask: say --yes.")
    click.confirm(question, abort=True, err=True)
