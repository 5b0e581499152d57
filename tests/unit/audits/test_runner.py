"""Audits asked: what stands for rows, what is compared with, and what ClickHouse finds wrong with a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pipeline.audits import parse_audit
from pipeline.audits.catalogue import ChosenAudit, load_catalogue
from pipeline.audits.runner import Candidate, ask_audits, fill_message, find_mistakes
from pipeline.errors import WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME
from pipeline.warehouse import Warehouse
from pipeline.warehouse.nearest import PublishedDay

TABLE = "raw_address_labels"
DAY = Snapshot("torus", date(2025, 8, 10), 195)


def chosen(sql: str, message: str = "{what}", *headers: str) -> ChosenAudit:
    """Return an audit of a SELECT."""
    head = ["An audit of a test.", "level: hold", f"message: {message}", *headers]
    audit = parse_audit("tried", "tried.sql", "\n".join([*(f"-- {line}" for line in head), sql]))
    return ChosenAudit(audit, audit.level, audit.parameters)


def load_id(number: int) -> str:
    """Return an id."""
    return str(UUID(int=number))


def store(warehouse: Warehouse, day: date, number: int, *labels: str) -> PublishedDay:
    """Store rows of the labels under a load of a day."""
    for label in labels:
        warehouse.execute(
            f"INSERT INTO {{database}}.{TABLE}_loads (processing_date, window_days, load_id, network, address, label) "
            "VALUES ({day:Date}, 195, {id:UUID}, 'torus', 'a', {label:String})",
            day=day.isoformat(),
            id=load_id(number),
            label=label,
        )
    return PublishedDay(day, {TABLE: load_id(number)}, {TABLE: len(labels)})


def answer(warehouse: Warehouse, candidate: Candidate, audit: ChosenAudit) -> list[dict[str, Any]]:
    """Return the rows of an answer."""
    (result,) = ask_audits(warehouse, candidate, [audit])
    return result.figures


def test_placeholders_stand_for_the_rows_of_their_loads(warehouse: Warehouse) -> None:
    """The candidate's rows are those of its load alone; those before are of every day, the nearest of one."""
    before = [store(warehouse, date(2025, 8, day), day, f"of {day}") for day in (9, 8)]
    mine = store(warehouse, DAY.processing_date, 10, "mine", "of mine")
    store(warehouse, DAY.processing_date, 11, "of another load")
    candidate = Candidate(DAY, mine.load_ids, mine.row_counts, before)
    for placeholder, labels in {"": ["mine", "of mine"], "_before": ["of 8", "of 9"], "_nearest": ["of 9"]}.items():
        sql = (
            f"SELECT arraySort(groupArray(label)) AS what FROM {{{TABLE}{placeholder}}} AS l WHERE l.window_days = 195"
        )
        assert answer(warehouse, candidate, chosen(sql)) == [{"what": labels}]
    facts = "SELECT {processing_date:Date} AS day, {window_days:UInt16} AS window, {network:String} AS what"
    assert answer(warehouse, candidate, chosen(facts)) == [{"day": "2025-08-10", "window": 195, "what": "torus"}]
    counts = "SELECT * FROM {row_counts} UNION ALL SELECT table, rows FROM {row_counts_before}"
    found = answer(warehouse, candidate, chosen(counts, "{rows}"))
    assert sorted(row["rows"] for row in found) == [1, 1, 2]
    days = "SELECT groupArray(processing_date) AS what FROM {days_before}"
    assert answer(warehouse, candidate, chosen(days)) == [{"what": ["2025-08-09", "2025-08-08"]}]


def test_a_first_day_has_nothing_before_it(warehouse: Warehouse) -> None:
    """The placeholders of other days are empty, and no error."""
    mine = store(warehouse, DAY.processing_date, 20, "mine")
    candidate = Candidate(DAY, mine.load_ids, mine.row_counts, [])
    for placeholder in (f"{TABLE}_before", f"{TABLE}_nearest", "row_counts_before", "days_before"):
        assert answer(warehouse, candidate, chosen(f"SELECT 1 AS what FROM {{{placeholder}}} AS x")) == []


def test_loads_are_not_compared_with_themselves(warehouse: Warehouse) -> None:
    """What is published of the same day is a day of comparison only as long as it is of other loads."""
    seen, new = store(warehouse, DAY.processing_date, 50, "seen"), store(warehouse, DAY.processing_date, 51, "new")
    before = store(warehouse, date(2025, 8, 9), 52, "of 9")
    for mine, dates, label in ((new, ["2025-08-10", "2025-08-09"], "seen"), (seen, ["2025-08-09"], "of 9")):
        candidate = Candidate(DAY, dict(mine.load_ids), mine.row_counts, [seen, before])
        assert candidate.dates == dates
        nearest = chosen(f"SELECT label AS what FROM {{{TABLE}_nearest}} AS l")
        assert answer(warehouse, candidate, nearest) == [{"what": label}]
        counted = chosen("SELECT count() AS what FROM {row_counts_before}")
        assert answer(warehouse, candidate, counted) == [{"what": len(dates)}]


def test_an_answer_is_bounded_and_the_wrong_rows_come_first(warehouse: Warehouse) -> None:
    """Of 1,000 rows 20 are taken; with ``wrong`` the others are figures, told by no message."""
    mine = store(warehouse, DAY.processing_date, 30, "mine")
    candidate = Candidate(DAY, mine.load_ids, mine.row_counts, [])
    (result,) = ask_audits(warehouse, candidate, [chosen("SELECT number AS what FROM numbers(1000)")])
    assert len(result.wrong) == 20
    audit = chosen(
        "SELECT number * 1000.5 AS what, number = 999 AS wrong FROM numbers({many:UInt32}) -- all",
        "{what} of {wrong}",
        "parameter many = 1e3",
    )
    (result,) = ask_audits(warehouse, candidate, [audit])
    assert (len(result.figures), result.messages) == (20, ["999,500 of 1"])


FIGURES = {
    "none": None,
    "true": True,
    "1,234,567": 1_234_567,
    "0.3333": 1 / 3,
    "12,345,679": 12_345_678.9,
    "a, 1,000": ["a", 1000],
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more": list(range(12)),
    f"{'x' * 200}…": "x" * 9_000,
}


@pytest.mark.parametrize("text", FIGURES)
def test_figures_are_written_for_people(text: str) -> None:
    """With thousands apart, few digits, and an end."""
    assert fill_message("<{it}>", {"it": FIGURES[text]}) == f"<{text}>"


def test_an_audit_of_a_table_that_is_not_ingested_is_left_out(warehouse: Warehouse) -> None:
    """Nothing can be said of rows that no load has."""
    mine = store(warehouse, DAY.processing_date, 40, "mine")
    candidate = Candidate(DAY, mine.load_ids, mine.row_counts, [])
    assert list(ask_audits(warehouse, candidate, [chosen("SELECT 1 AS what FROM {raw_alerts_before} AS a")])) == []


def test_a_select_that_fails_names_its_audit(warehouse: Warehouse) -> None:
    """It holds nothing: the step fails, and says which file to correct."""
    candidate = Candidate(DAY, {}, {}, [])
    with pytest.raises(WarehouseError, match=r"audit tried: .*395") as caught:
        list(ask_audits(warehouse, candidate, [chosen("SELECT throwIf(number = 3) AS what FROM numbers(9)")]))
    assert "tried.sql" in caught.value.hint


def test_audits_of_few_rows_are_asked_with_one_statement(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own value of a parameter of one name; of more rows, or where one fails, each is asked by itself."""
    mine = store(warehouse, DAY.processing_date, 60, "mine")
    candidate = Candidate(DAY, mine.load_ids, mine.row_counts, [])
    audits = [
        chosen("SELECT {many:UInt8} AS what, number AS wrong FROM numbers(3)", "{what}", f"parameter many = {many}")
        for many in (1, 2)
    ]
    statements, query = [], warehouse.query

    def noted(statement: str, **values: Any) -> list[tuple[Any, ...]]:
        statements.append(statement)
        return query(statement, **values)

    monkeypatch.setattr(warehouse, "query", noted)
    together = list(ask_audits(warehouse, candidate, audits))
    assert [result.messages for result in together] == [["1", "1"], ["2", "2"]]
    assert [[row["wrong"] for row in result.figures] for result in together] == [[2, 1, 0]] * 2
    assert len(statements) == 1
    many = replace(candidate, row_counts={TABLE: 1_000_000})
    assert list(ask_audits(warehouse, many, audits)) == together
    assert len(statements) == 1 + 2
    with pytest.raises(WarehouseError, match=r"audit tried: .*nope"):
        list(ask_audits(warehouse, candidate, [*audits, chosen("SELECT nope AS what")]))
    assert len(statements) == 3 + 1 + 3


MISTAKES = {
    "syntax": ("SELEC 1 AS what", "Syntax error"),
    "an unknown column": (f"SELECT nope AS what FROM {{{TABLE}}} AS l", "nope"),
    "two statements": ("SELECT 1 AS what; SELECT 2 AS what", "Syntax error"),
    "an INSERT": ("INSERT INTO {row_counts} VALUES (1)", "Syntax error"),
    "DDL": ("DROP DATABASE default", "Syntax error"),
    "a message's column": ("SELECT 1 AS other", "message: the answer has no column 'what' (other)"),
    "a column wrong that the answer lacks": ("SELECT what FROM (SELECT 1 AS what, 0 AS wrong)", "as `… AS wrong`"),
    "another type": (f"SELECT sum(address) AS what FROM {{{TABLE}}} AS l", "Illegal type"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_clickhouse_says_what_is_wrong_with_a_file(warehouse: Warehouse, mistake: str) -> None:
    """Without a row read, and with the file's name."""
    sql, said = MISTAKES[mistake]
    (line,) = find_mistakes(warehouse, [chosen(sql)])
    assert line.startswith("tried.sql: ")
    assert said in line


def test_clickhouse_says_what_is_wrong_with_a_changed_parameter(warehouse: Warehouse, tmp_path: Path) -> None:
    """Of a packaged audit, with what changed it."""
    (tmp_path / "audits.toml").write_text("stale_features.sample = 0.5")
    (line,) = find_mistakes(warehouse, load_catalogue(tmp_path, ["torus"]).chosen_by_operator("torus"))
    assert line.startswith("stale_features with sample = 0.5 of audits.toml: ")
    assert "Value 0.5 cannot be parsed" in line


def test_the_example_of_the_documentation_is_an_audit(warehouse: Warehouse) -> None:
    """As it stands there."""
    page = (Path(__file__).parents[3] / "docs" / "audits.md").read_text("utf-8")
    (text,) = [
        block for block in re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "-- level:" in block
    ]
    audit = parse_audit("critical_alerts", "docs/audits.md", text)
    assert list(find_mistakes(warehouse, [ChosenAudit(audit, audit.level, audit.parameters)])) == []


def test_the_packaged_audits_are_right(warehouse: Warehouse) -> None:
    """Each can be asked where there is no table yet."""
    audits: Mapping[str, Any] = load_catalogue(None, ["torus"]).audits
    assert (
        list(find_mistakes(warehouse, [ChosenAudit(each, each.level, each.parameters) for each in audits.values()]))
        == []
    )
    everything = [f"SELECT * FROM {{{name}{suffix}}}" for name in BY_NAME for suffix in ("", "_before", "_nearest")]
    assert list(find_mistakes(warehouse, [chosen(sql, "a message") for sql in everything])) == []
