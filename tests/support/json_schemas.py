"""The schemas of docs/json, and what is wrong with a value by one of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

DIRECTORY = Path(__file__).parents[2] / "docs" / "json"


@cache
def schemas() -> dict[str, Any]:
    """Return each schema by its file's name."""
    return {path.name: json.loads(path.read_text("utf-8")) for path in sorted(DIRECTORY.glob("*.json"))}


@cache
def _validator(name: str) -> Draft202012Validator:
    resources = [(file, Resource.from_contents(schema)) for file, schema in schemas().items()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(schemas()[name], registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def mistakes(name: str, value: Any) -> list[str]:
    """Return where a value is not as the schema says, and why."""
    return [f"{error.json_path}: {error.message}" for error in _validator(f"{name}.json").iter_errors(value)]
