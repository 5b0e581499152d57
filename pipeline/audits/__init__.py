"""Audits: SQL that looks at a snapshot's loaded rows before readers see them, and returns what is wrong with them.

An audit is a file ``NAME.sql``. It begins with lines of comment: first what it checks, in sentences, then

    -- level: hold                      a snapshot that it finds something in is not published; or warn
    -- message: {table} has {rows} rows, expected at least {least}
    -- parameter ratio = 0.5            a threshold and its default; one line each

then one SELECT. Each row of its answer is one thing that is wrong, told with the message's words, where ``{column}`` is
a column of that row; no row says that all is well. With a column ``… AS wrong``, rows where it is 0 are figures that
passed: ``sot-ingest audit`` shows them. A line that is indented by three spaces or more continues the line before it.

In the SELECT stand for

    {raw_features}          the rows that are about to be published, of that table; so for every other table
    {raw_features_before}   the published rows that these are compared with, of the same network and window
    {raw_features_nearest}  those of the nearest day alone
    {row_counts}            table, rows: of what is about to be published; no table is read
    {row_counts_before}     processing_date, table, rows: of the same days; no table is read
    {days_before}           processing_date: those days, the nearest first
    {ratio:Float64}         a parameter, with the type that it is wanted in
    {processing_date:Date}  {window_days:UInt16}  {network:String}  the snapshot

Compared with are up to seven days: the nearest earlier ones and, where fewer than three are published, the nearest
later ones (a backfill). For a day that is published again, what readers see of it is compared with, too, and is the
nearest: its ``processing_date`` is the snapshot's own. Where nothing is published, these are empty.
An audit that names a table that is not ingested (INGESTION_TABLES) is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pipeline.errors import ConfigError, did_you_mean, nearest
from pipeline.tables import BY_NAME

Level = Literal["hold", "warn", "off"]
LEVELS: tuple[str, ...] = get_args(Level)

NAME = re.compile(r"[a-z][a-z0-9_]*")
HINT = "docs/audits.md says what an audit's file and audits.toml may hold; nothing was started"

#: What stands for rows: of each table, and of the counts.
PLACEHOLDERS = (
    *(f"{name}{suffix}" for name in BY_NAME for suffix in ("", "_before", "_nearest")),
    *("row_counts", "row_counts_before", "days_before"),
)
#: Parameters that every audit has.
GIVEN = ("processing_date", "window_days", "network")

_HEADER = re.compile(r"(level|message)\s*:\s*(.*)|(parameter)\s+(\w+)\s*=\s*(.*)")
_ALMOST = re.compile(r"(level|message)\s*=|parameter\s+\w+\s*:|parameter\s*[:=]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")
_USE = re.compile(r"\{\s*([A-Za-z_]\w*)\s*(:[^{}]*)?\}")
#: What names no table: comments, literals and placeholders.
_NO_NAME = re.compile(rf"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.)*'|{_USE.pattern}", re.DOTALL)
_TABLE = re.compile(r"\b(?:FROM|JOIN|IN)[\s(]+(?:[`\"]?\w+[`\"]?\.)?[`\"]?((?:raw|sot)_\w+)", re.IGNORECASE)
_WRONG = re.compile(r"\bAS\s+wrong\b", re.IGNORECASE)
EXPECTED_NUMBER = "expected a finite number above 0"
IN_MESSAGE = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Audit:
    """What a file says."""

    name: str
    place: str  #: where it stands, for people
    text: str  #: what it checks
    level: Level
    message: str
    parameters: Mapping[str, float]  #: the thresholds, with their defaults
    sql: str

    @property
    def placeholders(self) -> set[str]:
        """What stands for rows in its SELECT."""
        return {name for name, kind in _USE.findall(self.sql) if not kind}

    @property
    def has_figures(self) -> bool:
        """Whether rows of its answer can be figures that passed: those that are not ``wrong``."""
        return bool(_WRONG.search(self.sql))

    @property
    def compares(self) -> Literal["all", "nearest", ""]:
        """Which of the days before it reads: all, the nearest one, or none."""
        reads = self.placeholders
        if any(name.endswith("_nearest") for name in reads):  # where days_before says only how far away that day is
            reads = reads - {"days_before"}
        if reads & {name for name in PLACEHOLDERS if name.endswith("_before")}:
            return "all"
        return "nearest" if any(name.endswith("_nearest") for name in reads) else ""

    @property
    def tables(self) -> set[str]:
        """The tables whose rows it reads."""
        bases = {name.removesuffix("_before").removesuffix("_nearest") for name in self.placeholders}
        return bases & BY_NAME.keys()


def is_threshold(value: float) -> bool:
    """Tell whether a number can be a parameter of an audit."""
    return 0 < value <= sys.float_info.max


def replace_placeholders(sql: str, rows: Mapping[str, str]) -> str:
    """Return a SELECT with subqueries for what stands for rows; ``rows`` has one by placeholder."""
    return _USE.sub(lambda match: match[0] if match[2] else f"({rows[match[1]]})", sql)


def rename_parameters(sql: str, names: Mapping[str, str]) -> str:
    """Return a SELECT whose parameters have other names."""
    return _USE.sub(lambda match: f"{{{names[match[1]]}{match[2]}}}" if match[1] in names else match[0], sql)


def parse_audit(name: str, place: str, text: str) -> Audit:
    """Return the audit that a file's text describes. Raises ConfigError that lists every mistake, one a line."""
    lines, sql, end = _split(text)
    head = _Head(f"in the first comment, which ends with line {end}" if lines else "in a comment before the SELECT")
    for line in lines:
        head.read(line)
    mistakes = [] if NAME.fullmatch(name) else [f"the name is not of the form {NAME.pattern}"]
    mistakes += ["the name is taken: audits.toml has [network.NAME.AUDIT]"] if name == "network" else []
    mistakes += [*head.mistakes, *head.missing(), *_mistakes_in(sql, head.parameters)]
    if mistakes:
        raise ConfigError("\n".join(f"{place}: {mistake}" for mistake in mistakes), hint=HINT)
    level: Level = "hold" if head.given["level"][0] == "hold" else "warn"
    return Audit(name, place, " ".join(head.said), level, head.given["message"][0], head.parameters, sql)


@dataclass
class _Head:
    """What the first comment says."""

    place: str  #: where its lines are expected
    said: list[str] = field(default_factory=list)
    given: dict[str, list[str]] = field(default_factory=lambda: {"level": [], "message": []})
    parameters: dict[str, float] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Read one line."""
        match = _HEADER.fullmatch(line)
        if match and match[1]:
            self.given[match[1]].append(match[2])
        elif match:
            self._add_parameter(match[4], match[5])
        elif _ALMOST.match(line):
            self.mistakes.append(f"{line!r} is not of the form level: …, message: … or parameter NAME = NUMBER")
        else:
            self.said.append(line)

    def _add_parameter(self, name: str, value: str) -> None:
        if name in self.parameters or name in {"level", *GIVEN} or not NAME.fullmatch(name):
            self.mistakes.append(f"parameter {name}: expected a name of its own, of the form {NAME.pattern}")
        elif not _NUMBER.fullmatch(value) or not is_threshold(float(value)):
            self.mistakes.append(f"parameter {name}: {EXPECTED_NUMBER}, found {value!r}")
        else:
            self.parameters[name] = float(value)

    def missing(self) -> Iterator[str]:
        """Yield what it does not say."""
        for header, values in self.given.items():
            if len(values) != 1 or not values[0]:
                yield f"expected one line '-- {header}: …' {self.place}, found {len(values)}"
        for level in self.given["level"]:
            if level not in {"hold", "warn"}:
                yield f"level: expected hold or warn, found {level!r}"
        if not self.said:
            yield "the first comment does not say what it checks"


def _split(text: str) -> tuple[list[str], str, int]:
    """Return the lines of the first comment, each with those that continue it, the SELECT, and where that comment ends.

    That is the number of its last line in the file, from 1.
    """
    rows = text.rstrip().splitlines()
    first = next((place for place, row in enumerate(rows) if row.strip()), len(rows))
    end = next((place for place, row in enumerate(rows) if place >= first and not row.startswith("--")), len(rows))
    lines: list[str] = []
    for row in rows[first:end]:
        content = row.removeprefix("--")
        if lines and content.startswith("   "):
            lines[-1] += f" {content.strip()}"
        elif content.strip():
            lines.append(content.strip())
    return lines, "\n".join(rows[end:]).strip().removesuffix(";").rstrip(), end


def _mistakes_in(sql: str, parameters: Mapping[str, float]) -> list[str]:
    """Return what is wrong with a SELECT, as far as that is known without a server."""
    if not sql:
        return ["there is no SELECT after the first comment"]
    used = _USE.findall(sql)
    known = [*parameters, *GIVEN]
    bound = dict.fromkeys(name for name, kind in used if kind)
    placeholders = dict.fromkeys(name for name, kind in used if not kind)
    return [
        *(
            f"{{{name}}} is no placeholder {did_you_mean(name, PLACEHOLDERS)}"
            for name in placeholders
            if name not in PLACEHOLDERS
        ),
        *(f"{{{name}:…}} is no parameter {did_you_mean(name, known)}" for name in bound if name not in known),
        *(f"parameter {name} is not used in the SELECT" for name in parameters if name not in bound),
        *(
            f"{name} is a table with other rows than those to be published: write {_instead_of(name)}"
            for name in _tables_named(sql)
        ),
    ]


def _tables_named(sql: str) -> Iterator[str]:
    """Yield the pipeline's tables that a SELECT reads by their names, but subqueries that it names so itself."""
    names = _NO_NAME.sub(lambda match: " " if match[0].startswith(("--", "/*")) else "()", sql)
    for name in dict.fromkeys(_TABLE.findall(names)):
        if not re.search(rf"\b{name}\s+AS\s*\(", names, re.IGNORECASE):
            yield name


def _instead_of(table: str) -> str:
    """Return the placeholder that a table's name was to be."""
    near = nearest(table, PLACEHOLDERS)
    return f"{{{near}}}" if near else f"a placeholder ({', '.join(PLACEHOLDERS)})"
