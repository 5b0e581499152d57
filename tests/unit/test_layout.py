"""Where things live: which folder may import which, and what the words must not import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parents[2]

#: The modules that lie flat in pipeline/ and that every other one may import, in their order: a module imports earlier
#: rows, and its own row.
WORDS = (
    ("errors", "exit_codes", "dates", "environment", "snapshot", "tables"),
    ("manifest", "settings", "retry", "logs"),
)
WORD_MODULES = frozenset(name for row in WORDS for name in row)

#: What each folder, or module beside the folders, may import beside its own modules and the words.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "files": frozenset(),
    "clickhouse": frozenset(),
    "demo": frozenset(),
    "cron": frozenset(),
    "sources": frozenset({"files", "clickhouse"}),
    "warehouse": frozenset({"files", "clickhouse"}),
    "audits": frozenset({"warehouse"}),
    "graph": frozenset({"files", "clickhouse", "sources", "warehouse", "audits"}),
    "tasks": frozenset({"files", "clickhouse", "sources", "warehouse", "audits", "graph"}),
    "operations": frozenset({"cron", "files", "clickhouse", "sources", "warehouse", "audits", "graph"}),
    "runs": frozenset({"files", "clickhouse", "sources", "warehouse", "audits", "graph", "tasks", "operations"}),
    "service": frozenset({"warehouse", "graph", "operations", "runs"}),
    "cli": frozenset(
        {"files", "clickhouse", "sources", "warehouse", "audits", "graph", "tasks", "operations", "runs", "service"}
    ),
}

#: Slow to import, or tied to luigi: the words know none of them, and a file format or driver waits for its first use.
HEAVY = frozenset({"luigi", "pyarrow", "boto3", "botocore", "chdb"})

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "pipeline").rglob("*.py"))
}


def room(module: str) -> str:
    """Return the folder below pipeline/, or the flat module's own name; '' for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(source: str) -> Iterator[str]:
    """Yield what a module's text imports, anywhere in it; both ``a`` and ``a.b`` for ``from a import b``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level=0) if module:
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)


def imports_at_start(source: str) -> Iterator[str]:
    """Yield the packages that importing a module imports: not what functions or type checkers import."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.partition(".")[0] for name in imports(ast.unparse(node)))


def imported_rooms(module: str) -> set[str]:
    """Return the rooms, other than its own, that a module imports from."""
    found = {room(name) for name in imports(MODULES[module].read_text("utf-8")) if name in MODULES}
    return found - {"", room(module)}


def test_imports_are_found_wherever_they_are() -> None:
    """In functions, under TYPE_CHECKING, as an attribute of a package."""
    source = "def f():\n    import luigi.mock\nif TYPE_CHECKING:\n    from pipeline import tasks as t\n"
    assert set(imports(source)) == {"luigi.mock", "pipeline", "pipeline.tasks"}
    assert list(imports_at_start("import os.path\n" + source)) == ["os"]


def test_every_module_has_a_place() -> None:
    """A new folder or flat module gets a row, and no row is left of one that is gone; few modules lie flat."""
    rooms = {room(module) for module in MODULES} - {""}
    assert rooms == WORD_MODULES | MAY_IMPORT.keys()
    assert len(list((ROOT / "pipeline").glob("*.py"))) <= 14


def test_readme_shows_the_table() -> None:
    """README has a line for each folder."""
    readme = (ROOT / "README.md").read_text("utf-8")
    folders = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert [folder for folder in sorted(folders) if f"  {folder}/" not in readme] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_absolute(module: str) -> None:
    """So that they can be compared."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in MAY_IMPORT])
def test_a_folder_imports_what_its_row_allows(module: str) -> None:
    """Folders import those below them, never back and never beside them."""
    assert imported_rooms(module) <= MAY_IMPORT[room(module)] | WORD_MODULES


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in WORD_MODULES])
def test_the_words_import_downwards(module: str) -> None:
    """The words import one another only, downwards, and nothing heavy when they are imported."""
    place = next(place for place, row in enumerate(WORDS) if room(module) in row)
    assert imported_rooms(module) <= {name for row in WORDS[: place + 1] for name in row}
    assert not HEAVY & set(imports_at_start(MODULES[module].read_text("utf-8")))


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in WORD_MODULES | {"files", "sources", "warehouse"}])
def test_the_core_does_not_know_luigi(module: str) -> None:
    """Only the graph and what is above it import luigi; nothing imports pandas."""
    roots = {name.partition(".")[0] for name in imports(MODULES[module].read_text("utf-8"))}
    assert not {"luigi", "pandas"} & roots


def test_no_module_has_a_function_of_its_name() -> None:
    """``plan.plan`` says a thing twice and tells a reader nothing."""
    twice = [
        module
        for module, path in MODULES.items()
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == module.rpartition(".")[2]
    ]
    assert twice == []


def test_modules_form_no_circle() -> None:
    """Modules import one another in one direction within a folder, too; a package stands for what it defines."""
    graph = {
        module: {name for name in imports(path.read_text("utf-8")) if name in MODULES and name != module}
        - {module.rpartition(".")[0], "pipeline"}  # which imports what it does when it is called
        for module, path in MODULES.items()
    }
    order: list[str] = []
    under_way: list[str] = []

    def visit(module: str) -> None:
        assert module not in under_way, " -> ".join([*under_way[under_way.index(module) :], module])
        if module not in order:
            under_way.append(module)
            for name in sorted(graph[module]):
                visit(name)
            order.append(under_way.pop())

    for module in sorted(graph):
        visit(module)


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "unit").rglob("*.py")), ids=str)
def test_a_unit_test_stands_alone(path: Path) -> None:
    """It needs no S3 API, no second reader of Parquet, and none of the torture's harm."""
    found = set(imports(path.read_text("utf-8")))
    assert not {
        name for name in found if name.partition(".")[0] in {"moto", "duckdb"} or name.startswith("tests.torture")
    }


def test_the_walk_can_be_followed() -> None:
    """The package's docstring leads from the command to the publication: few files, each imported by one above it."""
    walk = re.findall(r"^    ([\w/]+\.py) ", pipeline.__doc__ or "", flags=re.MULTILINE)
    names = [f"pipeline.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}" for path in walk]
    assert len(names) <= 25
    assert names[0] == "pipeline.cli"
    assert names[-1] == "pipeline.warehouse.publish"
    above: set[str] = set()
    for name in names:
        assert not above or name in above or name.rpartition(".")[0] == "pipeline.cli", f"nothing above imports {name}"
        above |= set(imports(MODULES[name].read_text("utf-8")))
