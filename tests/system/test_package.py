"""What an installation holds: luigi's settings and the grants, whether it is a wheel or an editable install."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from pipeline.graph import luigi_settings
from pipeline.warehouse import grants

ROOT = Path(__file__).parents[2]

#: Runs without the environment of the tests, in which the package is installed already, but with its dependencies.
READ = """
import json, site, sys
site.addsitedir(sys.argv[1])
sys.path.append(sys.argv[2])
from pipeline.graph import luigi_settings
grants = luigi_settings.PATH.parents[1] / "warehouse" / "grants.sql"
print(json.dumps([str(luigi_settings.PATH), luigi_settings.LUIGI_SETTINGS, grants.read_text("utf-8")]))
"""


def installed(directory: Path, *how: str) -> tuple[Path, dict[str, dict[str, str]], str]:
    """Install a copy of the project into a directory; return its luigi.cfg, what it reads there, and its grants."""
    source, prefix = directory / "source", directory / "prefix"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "luigi.cfg"):
        shutil.copy(ROOT / name, source, follow_symlinks=False)
    shutil.copytree(ROOT / "pipeline", source / "pipeline", ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--ignore-installed"]
    pip += ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--prefix", str(prefix), *how, str(source)], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(prefix), "platbase": str(prefix)})
    command = [sys.executable, "-I", "-S", "-c", READ, packages, sysconfig.get_path("purelib")]
    found = json.loads(subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout)
    return Path(found[0]), *found[1:]


@pytest.mark.parametrize(("how", "place"), [((), "prefix"), (("--editable",), "source")], ids=["wheel", "editable"])
def test_an_installation_has_what_it_reads(tmp_path: Path, how: tuple[str, ...], place: str) -> None:
    """A wheel has copies of luigi.cfg and of grants.sql; an editable install reads the repository's."""
    path, settings, sql = installed(tmp_path, *how)
    assert path.is_relative_to(tmp_path / place)
    assert settings == luigi_settings.LUIGI_SETTINGS
    assert path.read_bytes() == (ROOT / "luigi.cfg").read_bytes()
    assert sql == grants.GRANTS.read_text("utf-8")


def test_there_is_one_of_each() -> None:
    """Those that users find in the repository are the packaged ones, so the two cannot differ."""
    assert (ROOT / "luigi.cfg").resolve() == luigi_settings.PATH
    assert (ROOT / "docker" / "grants.sql").resolve() == grants.GRANTS


def test_the_metadata_says_whose_it_is_and_who_may_use_it() -> None:
    """Authors, licence with its text, keywords and classifiers; no address as long as there is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text.splitlines()[1]
    assert "END OF TERMS AND CONDITIONS" in text
    assert project["authors"] == [{"name": "The sot-ingest contributors"}]
    assert project["keywords"] == sorted(project["keywords"])
    assert project["classifiers"] == sorted(project["classifiers"])
    assert "urls" not in project


@pytest.mark.slow
def test_readmes_lines_install_it(tmp_path: Path) -> None:
    """As typed, in a clone, by somebody whose home is empty; asks the package index."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (lines,) = re.findall(r"^```bash\n(python3 -m venv .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    clone, home = tmp_path / "a clone", tmp_path / "home"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment |= {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=clone, env=environment, capture_output=True, text=True, check=True
    )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert done.stdout.splitlines()[-1] == f"sot-ingest, version {version}"
