"""Ask audits: each is one SELECT over the candidate's rows and those of the days that it is compared with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pipeline.audits import IN_MESSAGE, Audit, rename_parameters, replace_placeholders
from pipeline.audits.catalogue import ChosenAudit
from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, Table
from pipeline.warehouse import Warehouse
from pipeline.warehouse.dictionary import quoted
from pipeline.warehouse.ledger import PARTITION_FILTER, snapshot_params
from pipeline.warehouse.nearest import PublishedDay

DAYS = 7  #: other days that a snapshot is compared with, at the most
MOST = 20  #: rows of an audit's answer
#: Up to so many rows, with those of the days that they are compared with, all audits are asked with one statement: to
#: parse and plan them takes most of the time then. They are at work at once and need their memory together.
FEW_ROWS = 100_000
LONGEST, SHOWN = 200, 10  #: characters of a figure that people are shown, and items of a list

#: Settings that the meaning of an audit rests on, beside those that are pinned for every statement.
SETTINGS: dict[str, int | str] = {
    "readonly": 1,
    "enable_analyzer": 1,
    "date_time_output_format": "simple",
    "join_use_nulls": 0,
    "transform_null_in": 0,
    "max_rows_to_group_by": 0,
    "session_timezone": "UTC",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_64bit_floats": 0,
    "output_format_json_quote_decimals": 0,
    "output_format_json_quote_denormals": 0,
    # An audit is asked once a day: about a small snapshot, to compile it takes longer than to answer.
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    "compile_sort_description": 0,
}
_SETTINGS = ", ".join(f"{name} = {value!r}" for name, value in SETTINGS.items())


@dataclass(frozen=True)
class Candidate:
    """The loads that are about to be published, or are."""

    snapshot: Snapshot
    load_ids: Mapping[str, str]  #: by table name
    row_counts: Mapping[str, int]  #: by table name
    days: Sequence[PublishedDay]  #: the published days around it, the nearest first

    @property
    def others(self) -> list[PublishedDay]:
        """The days that it is compared with: never its own loads, which may be published already."""
        return [day for day in self.days if day.load_ids != self.load_ids]

    @property
    def rows(self) -> int:
        """How many rows all these days have."""
        return sum(sum(counts.values()) for counts in (self.row_counts, *(day.row_counts for day in self.others)))

    @property
    def dates(self) -> list[str]:
        """The days that it is compared with, as they are recorded."""
        return [day.processing_date.isoformat() for day in self.others]


@dataclass(frozen=True)
class AuditResult:
    """What an audit found."""

    chosen: ChosenAudit
    figures: list[dict[str, Any]] = field(default_factory=list)  #: rows of its answer, the wrong ones first

    @property
    def name(self) -> str:
        """The audit's name."""
        return self.chosen.name

    @property
    def wrong(self) -> list[dict[str, Any]]:
        """The rows that are wrong."""
        return [row for row in self.figures if row.get("wrong", 1)]

    @property
    def messages(self) -> list[str]:
        """What is wrong, in the audit's words."""
        return [fill_message(self.chosen.audit.message, row) for row in self.wrong]


def fill_message(message: str, row: Mapping[str, Any]) -> str:
    """Return a message with the figures of a row in it."""
    return IN_MESSAGE.sub(lambda match: shown(row[match[1]]), message)


def shown(value: Any) -> str:
    """Return a figure for people, cut where it is long."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
        case list():
            more = [f"and {len(value) - SHOWN} more"] if len(value) > SHOWN else []
            return ", ".join([*map(shown, value[:SHOWN]), *more])
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def ask_audits(warehouse: Warehouse, candidate: Candidate, chosen: Sequence[ChosenAudit]) -> Iterator[AuditResult]:
    """Yield what each audit finds. Raises WarehouseError that names the audit whose SELECT fails."""
    asked = [each for each in chosen if each.audit.tables <= candidate.load_ids.keys()]
    if candidate.rows <= FEW_ROWS and len(asked) > 1:
        try:
            yield from _ask_together(warehouse, candidate, asked)
        except WarehouseError as error:
            if error.transient:
                raise type(error)(f"audits: {error}", hint=error.hint) from error
        else:
            return
    for each in asked:
        try:
            yield from _ask_together(warehouse, candidate, [each])
        except WarehouseError as error:
            raise type(error)(f"audit {each.name}: {error}", hint=_hint_of(each, error)) from error


def _hint_of(each: ChosenAudit, error: WarehouseError) -> str:
    if error.transient:
        return error.hint
    return f"correct {each.place}, or switch the audit off in audits.toml; nothing was published"


def _ask_together(warehouse: Warehouse, candidate: Candidate, asked: Sequence[ChosenAudit]) -> list[AuditResult]:
    """Return what audits find, with one statement. Raises WarehouseError."""
    thresholds = {
        f"{name}_{place}": value for place, each in enumerate(asked) for name, value in _thresholds(each).items()
    }
    rows = warehouse.query(
        f"{' UNION ALL '.join(_select(place, each) for place, each in enumerate(asked))} SETTINGS {_SETTINGS}",
        **thresholds,
        **_facts(candidate),
    )
    found: list[list[dict[str, Any]]] = [[] for _ in asked]
    for place, row in rows:
        found[place].append(json.loads(row))
    return [AuditResult(each, figures) for each, figures in zip(asked, found, strict=True)]


def _select(place: int, each: ChosenAudit) -> str:
    """Return the SELECT of an audit's rows as JSON, with its place among those asked, which its parameters end with."""
    select = rename_parameters(_fill(each.audit, _rows_of), {name: f"{name}_{place}" for name in each.parameters})
    order = "ORDER BY wrong DESC" if each.audit.has_figures else ""
    return (
        f"SELECT {place}, row FROM (SELECT formatRow('JSONEachRow', *) AS row FROM (\n{select}\n) {order} LIMIT {MOST})"
    )


def _fill(audit: Audit, rows_of: Callable[[Table], Mapping[str, str]]) -> str:
    """Return an audit's SELECT with subqueries for its placeholders; ``rows_of`` gives those of a table."""
    given = {**_COUNTS}
    for name in audit.tables:
        given |= rows_of(BY_NAME[name])
    return replace_placeholders(audit.sql, given)


#: Rows that are known from publications.
_COUNTS = {
    "row_counts": """
        SELECT row.1 AS table, row.2 AS rows
        FROM (SELECT arrayJoin(JSONExtract({_row_counts:String}, 'Array(Tuple(String, UInt64))')) AS row)
    """,
    "row_counts_before": """
        SELECT toDate(row.1) AS processing_date, row.2 AS table, row.3 AS rows
        FROM (SELECT arrayJoin(JSONExtract({_row_counts_before:String}, 'Array(Tuple(String, String, UInt64))')) AS row)
    """,
    "days_before": """
        SELECT toDate(arrayJoin(JSONExtract({_days_before:String}, 'Array(String)'))) AS processing_date
    """,
}


def _rows_of(table: Table) -> dict[str, str]:
    """Return the rows of a table for its placeholders: exactly those of the loads, whose partitions alone are read."""
    columns = f"SELECT {', '.join(column.name for column in table.columns)} FROM {{database}}.{table.loads} WHERE"
    own = PARTITION_FILTER.replace("{load_id:UUID}", f"{{_{table.name}:UUID}}")
    among = "load_id IN (SELECT arrayJoin(JSONExtract({{_{}:String}}, 'Array(UUID)')))"
    others = (f"{table.name}_before", f"{table.name}_nearest")
    return {table.name: f"{columns} {own}", **{name: f"{columns} {among.format(name)}" for name in others}}


def _facts(candidate: Candidate) -> dict[str, Any]:
    """Return the parameters that say what an audit is about."""
    loads = {
        f"_{name}{suffix}": json.dumps([day.load_ids[name] for day in days if name in day.load_ids])
        for name in BY_NAME
        for suffix, days in (("_before", candidate.others), ("_nearest", candidate.others[:1]))
    }
    counts = [
        (day.processing_date.isoformat(), name, rows)
        for day in candidate.others
        for name, rows in day.row_counts.items()
    ]
    return {
        **snapshot_params(candidate.snapshot),
        "network": candidate.snapshot.network,
        **{f"_{name}": load_id for name, load_id in candidate.load_ids.items()},
        **loads,
        "_row_counts": json.dumps(list(candidate.row_counts.items())),
        "_row_counts_before": json.dumps(counts),
        "_days_before": json.dumps(candidate.dates),
    }


def _thresholds(each: ChosenAudit) -> dict[str, int | float]:
    """Return an audit's parameters; a whole number can be wanted in a type of whole numbers."""
    return {name: int(value) if value.is_integer() else value for name, value in each.parameters.items()}


def find_mistakes(warehouse: Warehouse, chosen: Sequence[ChosenAudit]) -> Iterator[str]:
    """Yield what ClickHouse finds wrong with audits, and messages that name a column which the answer lacks.

    Nothing is read, and no table need be there. Raises WarehouseError when ClickHouse does not answer.
    """
    warehouse.query("SELECT 1")  # an error from here on is the audit's
    nothing = Candidate(Snapshot("network", date(2025, 1, 1), 1), {}, {}, [])
    for each in chosen:
        statement = f"DESCRIBE (\n{_fill(each.audit, _no_rows)}\n) SETTINGS {_SETTINGS}"
        try:
            found = warehouse.query(statement, **_thresholds(each), **_facts(nothing))
        except WarehouseError as error:
            if error.transient:
                raise
            yield f"{each.place}: {error}"
        else:
            yield from _mistakes_of_answer(each.audit, [str(name) for name, *_ in found])


def _mistakes_of_answer(audit: Audit, columns: Sequence[str]) -> Iterator[str]:
    """Yield what the columns of an answer lack."""
    for name in IN_MESSAGE.findall(audit.message):
        if name not in columns:
            yield f"{audit.place}: message: the answer has no column {name!r} ({', '.join(columns)})"
    if audit.has_figures != ("wrong" in columns):
        yield f"{audit.place}: expected the column wrong as `… AS wrong` in the outermost SELECT, or nowhere"


def _no_rows(table: Table) -> dict[str, str]:
    """Return the same without a row, for a server that may not have the tables yet."""
    columns = [f"defaultValueOfTypeName({quoted(column.type)}) AS {column.name}" for column in table.columns]
    return dict.fromkeys(_rows_of(table), f"SELECT {', '.join(columns)} WHERE 0")
