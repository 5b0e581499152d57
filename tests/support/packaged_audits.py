"""The packaged audits in docs/audits.md, from their files: ``scripts/docs`` writes them, a test compares them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pipeline.audits.catalogue import load_catalogue

PAGE = Path(__file__).parents[2] / "docs" / "audits.md"
BEGIN, END = "<!-- written by scripts/docs -->\n", "<!-- end -->\n"


def shown(value: float) -> str:
    """Return a threshold as one would write it into audits.toml."""
    return f"{Decimal(str(value)):f}".removesuffix(".0")


def table() -> str:
    """Return the table of all packaged audits."""
    rows = []
    for name, audit in sorted(load_catalogue(None, []).audits.items()):
        thresholds = ", ".join(f"`{parameter} = {shown(value)}`" for parameter, value in audit.parameters.items())
        rows.append(
            f"| [`{name}`](../pipeline/audits/{name}.sql) | {audit.level} | {audit.text} | {thresholds or '–'} |"
        )
    return "\n".join(["| audit | level | what it checks | thresholds |", "|---|---|---|---|", *rows]) + "\n"


def written() -> str:
    """Return the page as it should be."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
