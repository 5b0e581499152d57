"""docs/configuration.md, whose table is written from the settings: ``scripts/docs`` writes it, a test compares it."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from pipeline.environment import file_variable
from pipeline.settings import Settings, secret_variables

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN, END = "<!-- written by scripts/docs -->\n", "<!-- end -->\n"


def shown(value: object) -> str:
    """Return a setting's default as one would write it into the environment."""
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case None | "" | () | SecretStr():
            return "–"
        case tuple():
            return f"`{','.join(value)}`"
        case _:
            return f"`{value}`"


def variable(name: str) -> str:
    """Return how a setting can be given."""
    return f"`{name}` or `{file_variable(name)}`" if name in secret_variables() else f"`{name}`"


def table() -> str:
    """Return the table of all variables."""
    rows = [
        f"| {variable(field.alias)} | {shown(field.default)} | {field.description} |"
        for field in Settings.model_fields.values()
        if field.alias
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def written() -> str:
    """Return the page as it should be."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
