"""Imports go one way, and the core does not know luigi."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: A module imports modules of its own level or a lower one. A package's entry holds for what is in it.
LEVELS = {
    "pipeline": 0,
    "pipeline.errors": 0,
    "pipeline.environment": 1,
    "pipeline.attempts": 1,
    "pipeline.files": 1,
    "pipeline.logs": 1,
    "pipeline.progress": 1,
    "pipeline.snapshot": 1,
    "pipeline.tables": 1,
    "pipeline.settings": 2,
    "pipeline.manifest": 2,
    "pipeline.conversion": 2,
    "pipeline.digest": 2,
    "pipeline.clickhouse": 3,
    "pipeline.refusal": 3,
    "pipeline.validate": 3,
    "pipeline.demo": 3,
    "pipeline.demo_store": 4,
    "pipeline.cron": 3,
    "pipeline.sources": 4,
    "pipeline.download": 5,
    "pipeline.workspace": 5,
    "pipeline.warehouse": 5,
    "pipeline.claims": 6,
    "pipeline.context": 6,
    "pipeline.journal": 6,
    "pipeline.spool": 7,
    "pipeline.outcome": 8,
    "pipeline.steps": 7,
    "pipeline.pending": 7,
    "pipeline.plan": 7,
    "pipeline.missing": 7,
    "pipeline.status": 7,
    "pipeline.report": 8,
    "pipeline.rollback": 7,
    "pipeline.findings": 7,
    "pipeline.deep": 8,
    "pipeline.verify": 9,
    "pipeline.history": 7,
    "pipeline.freshness": 7,
    "pipeline.workfiles": 7,
    "pipeline.garbage": 7,
    "pipeline.parameters": 8,
    "pipeline.worker": 8,
    "pipeline.signals": 1,
    "pipeline.process": 8,
    "pipeline.scheduler": 9,
    "pipeline.page": 8,
    "pipeline.doctor": 10,
    "pipeline.targets": 8,
    "pipeline.display": 8,
    "pipeline.messages": 9,
    "pipeline.metrics": 9,
    "pipeline.ping": 9,
    "pipeline.step_task": 9,
    "pipeline.tasks": 9,
    "pipeline.ending": 10,
    "pipeline.run": 11,
    "pipeline.luigi_command": 11,
    "pipeline.backfill": 12,
    "pipeline.commands": 12,
    "pipeline.cli": 13,
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "pipeline").rglob("*.py"))
}


def level(module: str) -> int:
    """Return the level of a module of ours; raises KeyError when neither it nor its package has one."""
    while module.count(".") > 1 and module not in LEVELS:
        module = module.rpartition(".")[0]
    return LEVELS[module]


def imports(source: str) -> Iterator[str]:
    """Yield what a module's text imports, anywhere in it; both ``a`` and ``a.b`` for ``from a import b``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level=0) if module:
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)


def test_imports_are_found_wherever_they_are() -> None:
    """In functions, under TYPE_CHECKING, as an attribute of a package."""
    source = "def f():\n    import luigi.mock\nif TYPE_CHECKING:\n    from pipeline import tasks as t\n"
    assert set(imports(source)) == {"luigi.mock", "pipeline", "pipeline.tasks"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_level(module: str) -> None:
    """A new module is given a place in the order; imports are absolute, so that they can be compared."""
    level(module)
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    """No module imports one of a higher level."""
    imported = {name for name in imports(MODULES[module].read_text("utf-8")) if name in MODULES}
    assert [name for name in sorted(imported) if level(name) > level(module)] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_core_does_not_know_luigi(module: str) -> None:
    """Only targets and what is above them import luigi; nothing imports pandas."""
    roots = {name.partition(".")[0] for name in imports(MODULES[module].read_text("utf-8"))}
    assert "pandas" not in roots
    assert "luigi" not in roots or level(module) >= level("pipeline.targets")
