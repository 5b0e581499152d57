"""The private names of luigi that the pipeline uses are there, and one module lists them all."""

from __future__ import annotations

import ast
import tomllib
from importlib.metadata import version
from pathlib import Path

import luigi.interface
import pytest
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import LuigiConfigParser
from luigi.rpc import RemoteScheduler
from luigi.scheduler import Scheduler
from luigi.worker import TaskProcess, TaskStatusReporter, Worker
from packaging.requirements import Requirement

from pipeline.graph import luigi_private

PIPELINE = Path(luigi_private.__file__).parents[1]

#: What of luigi may have private names that we use, as a run has it.
OWNERS = {
    "luigi.interface": luigi.interface,
    "Worker": Worker(scheduler=Scheduler()),
    "RemoteScheduler": RemoteScheduler("http://localhost"),
    "TaskStatusReporter": TaskStatusReporter(Scheduler(), "task", "worker", None),
    "TaskProcess": TaskProcess,
    "Scheduler": Scheduler,
    "Task": luigi.Task,
    "Parameter": luigi.Parameter,
    "CmdlineParser": CmdlineParser,
    "LuigiConfigParser": LuigiConfigParser,
}


@pytest.mark.parametrize("owner", luigi_private.NAMES)
def test_luigi_has_what_we_use(owner: str) -> None:
    """After an upgrade this says which names are gone, and what they were used for."""
    uses = luigi_private.NAMES[owner].items()
    gone = [f"{owner}.{name} ({use})" for name, use in uses if not hasattr(OWNERS[owner], name)]
    assert not gone, f"luigi {version('luigi')} has no {', '.join(gone)}"


def test_an_upgrade_of_luigi_is_a_decision() -> None:
    """pyproject.toml has an upper bound: the next minor version may have other private names."""
    project = tomllib.loads((PIPELINE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    (bound,) = [each for each in map(Requirement, project["dependencies"]) if each.name == "luigi"]
    assert any(each.operator == "<" for each in bound.specifier)
    assert bound.specifier.contains(version("luigi"))


def private_names(source: str) -> set[str]:
    """Return luigi's private names that a module uses or overrides; none when it does not import luigi."""
    nodes = list(ast.walk(ast.parse(source)))
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    if not any(name.partition(".")[0] == "luigi" for name in imported):
        return set()
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    methods = [each for node in nodes if isinstance(node, ast.ClassDef) for each in node.body]
    used |= {each.name for each in methods if isinstance(each, ast.FunctionDef)}
    luigis = {name for owner in OWNERS.values() for name in dir(owner)}
    return {name for name in used & luigis if name.startswith("_") and not name.startswith("__")}


def test_private_names_are_found() -> None:
    """Those of luigi's objects and those that a class overrides, and no names of our own."""
    source = "from luigi.worker import Worker\nclass A(Worker):\n  def _keep_alive(self): return self._own or self._id"
    assert private_names(source) == {"_keep_alive", "_id"}
    assert private_names(source.replace("luigi.worker", "pipeline.runs.worker")) == set()


def test_they_are_all_listed() -> None:
    """In luigi_private.NAMES, which lists no name that is not used."""
    listed = {name for names in luigi_private.NAMES.values() for name in names}
    found = {str(path.relative_to(PIPELINE)): private_names(path.read_text("utf-8")) for path in PIPELINE.rglob("*.py")}
    assert {name: used - listed for name, used in found.items() if used - listed} == {}
    assert listed - set().union(*found.values()) == set()
