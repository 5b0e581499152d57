"""How the verbs answer: a table that a person reads at a glance, or JSON; and how they ask."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from pipeline import environment, exit_codes
from pipeline.logs import printable, wrapped

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    **dict.fromkeys(("published", "done", "in order", "fresh", "loaded", "ok", "passed"), "green"),
    "rolled back": "magenta",
    **dict.fromkeys(("half done", "unknown", "started", "warning", "warned", "accepted"), "yellow"),
    **dict.fromkeys(("failed", "held", "missing", "too old", "nothing"), "red"),
}

#: Between two columns; the least characters that prose is wrapped to, and of a word that no line breaks.
GAP, NARROWEST, LONGEST_WORD = "  ", 16, 44


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know becomes its text."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_error(code: int, messages: Sequence[str], hint: str = "") -> None:
    """Print as JSON why there is no answer: an exit code with its meaning, what was wrong, what to do."""
    meaning = exit_codes.MEANINGS.get(code, "unknown")
    print_json({"exit_code": code, "meaning": meaning, "errors": list(messages), "hint": hint or None})


def print_sentence(text: str, hanging: str = "") -> None:
    """Print a text, on a terminal in lines that fit it, of which ``hanging`` begins all but the first."""
    width = terminal_width()
    click.echo(f"\n{hanging}".join(wrapped(text, width - len(hanging)) if width else [text]))


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard output is, or None when it is none."""
    return environment.terminal_columns(1) if sys.stdout.isatty() else None


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    optional: Sequence[str] = (),
    prose: str | None = None,
    narrowest: int = NARROWEST,
) -> None:
    """Print a table, on a terminal one that fits it; the columns named in ``right`` hold numbers.

    Where it does not fit, the ``optional`` columns are left out, the first of them first; then the column ``prose``,
    the last one unless another is named, goes on in further lines, ``narrowest`` characters wide or more. In a pipe
    nothing is left out, and a row is a line.
    """
    from rich.console import Console  # noqa: PLC0415  # this takes 40 ms: not for a run, which prints no table

    console, width = Console(), terminal_width()
    for line in table_lines(
        headings, list(rows), width, right=right, optional=optional, prose=prose, narrowest=narrowest
    ):
        console.print(line, soft_wrap=True, highlight=False)


def table_lines(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    right: Iterable[str] = (),
    optional: Sequence[str] = (),
    prose: str | None = None,
    narrowest: int = NARROWEST,
) -> Iterator[Text]:
    """Yield the lines of a table, at most ``width`` characters each where that can be."""
    from rich.text import Text  # noqa: PLC0415

    cells = [[printable(cell) for cell in row] for row in rows]
    widths = {name: max([len(name), *(len(row[place]) for row in cells)]) for place, name in enumerate(headings)}
    wrapped = prose or headings[-1]
    if width is not None:
        words = [len(word) for row in cells for word in row[headings.index(wrapped)].split(" ")]
        least = max([narrowest, *(length for length in words if length <= LONGEST_WORD)])
        widths = _fitted(widths, width, optional, wrapped, min(least, widths[wrapped]))
    rights = set(right)
    styled = [[Text(name, "bold") for name in headings]]
    styled += [[Text(cell, STYLES.get(cell, "")) for cell in row] for row in cells]
    for row in styled:
        shown = [(name, cell) for name, cell in zip(headings, row, strict=True) if name in widths]
        parts = [_in_lines(cell, widths[name]) if name == wrapped else [cell] for name, cell in shown]
        for line in zip_longest(*parts, fillvalue=Text()):
            padded = [_padded(part, widths[name], name in rights) for part, (name, _) in zip(line, shown, strict=True)]
            text = Text(GAP).join(padded)
            text.rstrip()
            yield text


def _fitted(widths: Mapping[str, int], width: int, optional: Sequence[str], wrapped: str, least: int) -> dict[str, int]:
    """Return the widths of the columns that are left when the whole has so many characters at the most."""
    fitted = dict(widths)
    for name in optional:
        if _total({**fitted, **({wrapped: least} if wrapped in fitted else {})}) > width:
            del fitted[name]
    if wrapped in fitted:
        fitted[wrapped] = max(least, fitted[wrapped] - max(0, _total(fitted) - width))
    return fitted


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _in_lines(cell: Text, width: int) -> list[Text]:
    from rich.text import Text  # noqa: PLC0415

    return [Text(line, cell.style) for line in wrapped(cell.plain, width)]


def _padded(cell: Text, width: int, is_right: bool) -> Text:
    cell = cell.copy()
    cell.align("right" if is_right else "left", width)
    return cell


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
