"""What every table, view and column means, from ``schema/dictionary.csv``: the COMMENT of each, and docs/columns.md."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pipeline.tables import SUMMARIES, TABLE_VIEWS, schema_sql


@dataclass(frozen=True)
class Meaning:
    """A row of the dictionary; ``column`` is empty for a table or view itself."""

    table: str
    column: str
    clickhouse_type: str
    meaning: str
    unit: str
    values: str
    certainty: str  #: code (read from upstream's code), inferred, unknown

    @property
    def text(self) -> str:
        """The comment, a few sentences."""
        facts = {"Unit": self.unit, "Values" if self.column else "Note": self.values}
        parts = [self.meaning, *(f"{name}: {fact}" for name, fact in facts.items() if fact)]
        if self.certainty != "code":
            parts.append(f"({self.certainty})")
        return ". ".join(filter(None, parts))


@cache
def meanings() -> dict[tuple[str, str], Meaning]:
    """Return the dictionary, by table or view and column."""
    text = (resources.files("pipeline") / "schema" / "dictionary.csv").read_text("utf-8")
    rows = (Meaning(**row) for row in csv.DictReader(text.splitlines()))
    return {(row.table, row.column): row for row in rows}


def comment_of(name: str, column: str = "") -> str:
    """Return the comment of a table or view, or of a column of it; '' where the dictionary has none.

    The columns of a table's loads and of its views mean what those of the table mean.
    """
    base = TABLE_VIEWS[name][0].name if name in TABLE_VIEWS else name.removesuffix("_loads")
    found = meanings().get((name, column)) or (meanings().get((base, column)) if column else None)
    return found.text if found else ""


def create_statement(name: str, engine: str = "") -> str:
    """Return the statement of ``schema/`` that creates a table or view, with the comments of it and of its columns.

    ``engine`` is that of replicas, '' where there are none.
    """
    statement = schema_sql(name, engine).rstrip()
    if name in TABLE_VIEWS or name in SUMMARIES:
        statement = statement.replace(f".{name} AS\n", f".{name} ({', '.join(_view_columns(name))}) AS\n", 1)
    else:
        statement = _COLUMN.sub(
            lambda line: f"{line[1]} COMMENT {quoted(comment_of(name, line[2]))}{line[3]}", statement
        )
    return f"{statement}\nCOMMENT {quoted(comment_of(name))}"


_COLUMN = re.compile(r"^(    ([a-z]\w*) [A-Z].*?)(,?)$", re.MULTILINE)


def _view_columns(name: str) -> Iterator[str]:
    for column, kind in view_columns(name):
        yield f"`{column}` {kind} COMMENT {quoted(comment_of(name, column))}"


def view_columns(name: str) -> list[tuple[str, str]]:
    """Return name and type of each column of a view, in order."""
    if name in TABLE_VIEWS:
        return [(column.name, column.type) for column in TABLE_VIEWS[name][0].columns]
    return [(row.column, row.clickhouse_type) for row in meanings().values() if row.table == name and row.column]


def quoted(text: str) -> str:
    """Return a text as a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
