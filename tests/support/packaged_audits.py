"""The packaged audits: listed in docs/audits.md by ``scripts/docs``, which a test compares; and switched off."""

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


def switched_off(directory: Path) -> dict[str, str]:
    """Return the variable that switches them off: for rows that can be loaded and that upstream would never publish."""
    path = directory / "no-audits"
    path.mkdir()
    (path / "audits.toml").write_text("".join(f'[{name}]\nlevel = "off"\n' for name in load_catalogue(None, []).audits))
    return {"INGESTION_AUDITS_PATH": str(path)}


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
