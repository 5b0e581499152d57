"""The locks hold what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS = {
    "requirements/production.lock": (),
    "requirements/embedded.lock": ("embedded", "build"),
    "requirements/dev.lock": ("embedded", "build", "dev"),
}


def pinned(lock: str) -> list[Requirement]:
    """Return a lock's requirements; a name may have several, with markers."""
    text = (ROOT / lock).read_text("utf-8")
    return [Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z].*$", text, re.MULTILINE)]


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_fits_the_project(lock: str) -> None:
    """Every dependency is pinned, at a version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in EXTRAS[lock]:
        wanted += project["optional-dependencies"][extra]
    pins = {canonicalize_name(pin.name): pin for pin in pinned(lock)}
    for each in map(Requirement, wanted):
        (exact,) = pins[canonicalize_name(each.name)].specifier
        assert each.specifier.contains(exact.version), f"{lock} pins {exact.version}, not {each}; run scripts/lock"


@pytest.mark.parametrize("lock", EXTRAS)
def test_what_runs_is_what_was_tested(lock: str) -> None:
    """A version in one lock is a version in the lock that tests install, and every one has a digest."""
    tested = {(pin.name, str(pin.specifier)) for pin in pinned("requirements/dev.lock")}
    assert {(pin.name, str(pin.specifier)) for pin in pinned(lock)} <= tested
    blocks = re.split(r"^(?=[a-z])", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_names_no_place(lock: str) -> None:
    """Where packages come from is pip's setting, not ours."""
    assert not re.search(r"https?:|file:|--index-url|--find-links", (ROOT / lock).read_text("utf-8"))


def test_production_is_small() -> None:
    """The production lock brings neither the embedded engine nor what tests need; setuptools builds the package."""
    names = {pin.name for pin in pinned("requirements/production.lock")}
    assert names.isdisjoint({"chdb", "pandas", "moto", "pytest", "mypy", "uv"})
