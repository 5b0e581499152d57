"""docs/json: a schema for each verb that answers in JSON, each of them right."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pipeline.cli import VERBS
from tests.support.json_schemas import DIRECTORY, mistakes, schemas
from tests.support.zygote import Command

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


#: What a verb is asked, and what is wrong there.
REFUSED = {
    "status --days x": "--days: ",
    "status --dayz 1": "No such option '--dayz'",
    "run --date soon": "--date: 'soon' is not a day",
    "plan --to 2025-08-01": "SOT_S3_BUCKET or SOT_PATH or SOT_HOST",
    "nothing": "No such command 'nothing'",
}


@pytest.mark.parametrize("words", REFUSED)
def test_an_error_is_json_too(words: str, tmp_path: Path) -> None:
    """On standard output with --json, and in the log with LOG_FORMAT=json, also where click does not understand."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LOG_FORMAT": "json", "WAREHOUSE_PATH": "w"}
    process = Command(["sot-ingest", *words.split(), "--json"], environment, tmp_path, None)
    stdout, stderr = process.communicate(60)
    assert process.wait() == 2
    printed = json.loads(stdout)
    assert mistakes("error", printed) == []
    assert printed["exit_code"] == 2
    events = [json.loads(line) for line in stderr.splitlines()]
    assert [mistakes("log", event) for event in events] == [[]] * len(events)
    errors = [event["message"] for event in events if "exit_code" not in event]
    assert errors == printed["errors"]
    assert errors[0].startswith(REFUSED[words])
    assert {event["hint"] for event in events if "exit_code" not in event} == {printed["hint"]}
    ends = [event for event in events if "exit_code" in event]
    assert [mistakes("run-ended", event) for event in ends] == ([[]] if words.startswith("run ") else [])
