"""docs/columns.md, which is written from the dictionary: ``scripts/docs`` writes it, a test compares it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.warehouse.dictionary import Meaning, meanings

PAGE = Path(__file__).parents[2] / "docs" / "columns.md"
BEGIN, END = "<!-- written by scripts/docs -->\n", "<!-- end -->\n"


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ") or "–"


def section(name: str, columns: list[Meaning]) -> Iterator[str]:
    """Yield the lines about a table or view."""
    about = meanings().get((name, ""))
    yield f"## {name}"
    yield ""
    if about:
        yield ". ".join(filter(None, (about.meaning, about.values))) + "."
        yield ""
    yield "| column | type | meaning | unit | values | certainty |"
    yield "|---|---|---|---|---|---|"
    for row in columns:
        cells = (f"`{row.column}`", f"`{row.clickhouse_type}`", row.meaning, row.unit, row.values, row.certainty)
        yield f"| {' | '.join(map(cell, cells))} |"
    yield ""


def written() -> str:
    """Return the page as it should be."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    tables: dict[str, list[Meaning]] = {}
    for row in meanings().values():
        if row.column:
            tables.setdefault(row.table, []).append(row)
    lines = [line for name, columns in tables.items() for line in section(name, columns)]
    return f"{before}{BEGIN}{chr(10).join(lines)}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
