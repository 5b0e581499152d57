"""docs/json: a schema for each verb that answers in JSON, each of them right."""

from __future__ import annotations

import importlib

import pytest
from jsonschema import Draft202012Validator

from pipeline.cli import VERBS
from tests.support.json_schemas import DIRECTORY, mistakes, schemas

#: Not of a verb.
OTHERS = {"common.json", "error.json", "log.json", "run-ended.json"}


def test_each_verb_with_json_has_a_schema() -> None:
    """And no schema is left of a verb that is gone; the page names all."""
    commands = {verb: importlib.import_module(f"pipeline.cli.{verb}").command for verb in VERBS}
    verbs = {verb for verb, command in commands.items() if any(option.name == "as_json" for option in command.params)}
    assert {name.removesuffix(".json") for name in schemas().keys() - OTHERS} == verbs
    page = (DIRECTORY / "README.md").read_text("utf-8")
    assert [verb for verb in verbs if f"`{verb}`" not in page] == []
    assert [name for name in schemas() if name != "rerun.json" and f"]({name})" not in page] == []


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_one(name: str) -> None:
    """A misspelt keyword would allow anything."""
    Draft202012Validator.check_schema(schemas()[name])


def test_a_field_that_is_not_documented_is_a_mistake() -> None:
    """So that a new one gets its line, also where a schema has others in it."""
    day = {"network": "torus", "processing_date": "2025-08-01", "window_days": 195}
    assert mistakes("plan", [{**day, "reason": "no proof", "steps": [], "bytes": 0, "rows": 0}]) == []
    (found,) = mistakes("plan", [{**day, "reason": "no proof", "steps": [], "bytes": 0, "rows": 0, "new": 1}])
    assert "'new'" in found
    assert mistakes(
        "plan", [{**day, "processing_date": "01.08.2025", "reason": "", "steps": [], "bytes": 0, "rows": 0}]
    )
