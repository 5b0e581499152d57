"""What an installation holds: luigi's settings, read from the package, whether it is a wheel or an editable install."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pipeline.graph import luigi_settings

ROOT = Path(__file__).parents[2]

#: Runs without the environment of the tests, in which the package is installed already.
READ = """
import json, site, sys
site.addsitedir(sys.argv[1])
from pipeline.graph import luigi_settings
print(json.dumps([str(luigi_settings.PATH), luigi_settings.LUIGI_SETTINGS]))
"""


def installed(directory: Path, *how: str) -> tuple[Path, dict[str, dict[str, str]]]:
    """Install a copy of the project into a directory and return the file that it reads and what that says."""
    source, prefix = directory / "source", directory / "prefix"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "luigi.cfg"):
        shutil.copy(ROOT / name, source, follow_symlinks=False)
    shutil.copytree(ROOT / "pipeline", source / "pipeline", ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--ignore-installed"]
    pip += ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--prefix", str(prefix), *how, str(source)], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(prefix), "platbase": str(prefix)})
    command = [sys.executable, "-I", "-S", "-c", READ, packages]
    path, settings = json.loads(subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout)
    return Path(path), settings


@pytest.mark.parametrize(("how", "place"), [((), "prefix"), (("--editable",), "source")], ids=["wheel", "editable"])
def test_an_installation_has_luigis_settings(tmp_path: Path, how: tuple[str, ...], place: str) -> None:
    """A wheel has a copy of luigi.cfg; an editable install reads the repository's."""
    path, settings = installed(tmp_path, *how)
    assert path.is_relative_to(tmp_path / place)
    assert settings == luigi_settings.LUIGI_SETTINGS
    assert path.read_bytes() == (ROOT / "luigi.cfg").read_bytes()


def test_there_is_one_luigi_cfg() -> None:
    """The one that users find at the top is the packaged one, so the two cannot differ."""
    assert (ROOT / "luigi.cfg").resolve() == luigi_settings.PATH
