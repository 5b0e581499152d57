"""The private parts of luigi that the pipeline uses are there, and all stand in one module."""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import luigi.interface
import pytest
from luigi.configuration import LuigiConfigParser
from luigi.rpc import RemoteScheduler
from luigi.scheduler import Scheduler
from luigi.worker import TaskProcess, Worker
from packaging.requirements import Requirement

from pipeline.graph import luigi_private

PIPELINE = Path(luigi_private.__file__).parents[1]


@pytest.fixture(scope="module")
def owners() -> dict[str, object]:
    """What has private parts that we use, by the name that the module gives it."""
    return {
        "luigi.interface": importlib.import_module("luigi.interface"),
        "Worker": Worker(scheduler=Scheduler()),
        "RemoteScheduler": RemoteScheduler("http://localhost"),
        "TaskStatusReporter": luigi.worker.TaskStatusReporter(Scheduler(), "task", "worker", None),
    }


@pytest.mark.parametrize("owner", luigi_private.NAMES)
def test_luigi_has_what_we_use(owner: str, owners: dict[str, object]) -> None:
    """After an upgrade of luigi this says which private name is gone, and where it was used."""
    gone = [name for name in luigi_private.NAMES[owner] if not hasattr(owners[owner], name)]
    assert not gone, (
        f"luigi {version('luigi')} has no {owner}.{', '.join(gone)}: change pipeline/graph/luigi_private.py"
    )


def test_an_upgrade_of_luigi_is_a_decision() -> None:
    """pyproject.toml has an upper bound: the next minor version may have other private names."""
    project = tomllib.loads((PIPELINE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    (bound,) = [each for each in map(Requirement, project["dependencies"]) if each.name == "luigi"]
    assert any(each.operator == "<" for each in bound.specifier)
    assert bound.specifier.contains(version("luigi"))


def privates_of_luigi(owners: dict[str, object]) -> set[str]:
    """Return the private names of luigi's classes that we use or derive from."""
    found = set()
    for owner in (*owners.values(), luigi.Task, luigi.Parameter, LuigiConfigParser, TaskProcess, Scheduler):
        found |= {name for name in dir(owner) if name.startswith("_") and not name.startswith("__")}
    return found


def private_uses(tree: ast.Module) -> Iterator[str]:
    """Yield the private attributes that a module uses and does not define, and what its workers override."""
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {ast.unparse(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr not in own:
            yield node.attr
        elif isinstance(node, ast.ClassDef) and any("Worker" in ast.unparse(base) for base in node.bases):
            yield from (each.name for each in node.body if isinstance(each, ast.FunctionDef))


def test_they_stand_in_one_module(owners: dict[str, object]) -> None:
    """No other module of the pipeline uses a private name of luigi's."""
    privates, found = privates_of_luigi(owners), {}
    for path in PIPELINE.rglob("*.py"):
        text = path.read_text("utf-8")
        if "luigi" in text and path != Path(luigi_private.__file__):
            found[path.name] = privates & set(private_uses(ast.parse(text)))
    assert {name: names for name, names in found.items() if names} == {}
