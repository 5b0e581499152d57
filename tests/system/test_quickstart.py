"""scripts/quickstart, run as a newcomer runs it, in a copy of the repository.

The copy uses the environment that runs the tests, which has all that is asked for: nothing is installed. What pip
does in a fresh clone, .ci/run proves by calling the script before the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
NETWORKS, DAYS = ("ethereum", "bitcoin", "torus"), ("2025-08-01", "2025-08-02")
#: As `sot-ingest status` heads its columns.
STEMS = {"alerts": "alerts", "features": "features", "clusters": "clusters", "labels": "address_labels"}


def bash(directory: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as somebody who has nothing but PATH and an empty home."""
    home = directory.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env={"HOME": str(home), "PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def copied(copy: Path) -> Path:
    """Make a copy of what git tracks, with the environment of these tests, in a directory whose name wants quoting."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():  # a file can be removed and not committed yet
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    stamped = "source scripts/lib.sh; is_stamped $venv requirements/dev.lock && is_stamped $venv pyproject.toml"
    if bash(copy, stamped.replace("$venv", '"$venv"')).returncode:  # the script would install into it
        pytest.fail(f"{sys.prefix} is not what the locks say: run scripts/check first")
    return copy


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the repository in which nothing was run."""
    return copied(tmp_path / "a clone")


@dataclass(frozen=True)
class Tried:
    """A copy of the repository in which the quickstart was run."""

    clone: Path
    printed: str
    expected: dict[tuple[str, str], dict[str, int]]  #: see in_files


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Run it in a shell where another warehouse was set before: the variables that it sets are the only ones."""
    clone = copied(tmp_path_factory.mktemp("tried") / "a clone")
    done = bash(clone, "./scripts/quickstart", CLICKHOUSE_HOST="nowhere", TORUS_CLICKHOUSE_DATABASE="other")
    assert (done.returncode, done.stderr) == (0, "")
    return Tried(clone, done.stdout, in_files(clone / "quickstart" / "bucket"))


def published(output: str) -> dict[tuple[str, str], dict[str, int]]:
    """Return the rows that the printed status shows, by day and network, by the file's stem."""
    lines = output.splitlines()
    (header,) = [line.split() for line in lines if line.startswith("date ")]
    found = {}
    for line in lines:
        if match := re.match(r"(\d{4}-\d\d-\d\d)  +(\w+)  +published +(.*)", line):
            counts = match[3].split()[: len(STEMS)]
            found[match[1], match[2]] = {
                STEMS[name]: int(count) for name, count in zip(header[3:], counts, strict=False)
            }
    return found


def in_files(bucket: Path) -> dict[tuple[str, str], dict[str, int]]:
    """Return the rows of the bucket's files, by day and network, by the file's stem."""
    return {
        (day, network): {
            **{
                stem: pq.read_metadata(bucket / f"snapshots/{network}/{day}/195/{stem}.parquet").num_rows
                for stem in ("alerts", "features", "clusters")
            },
            "address_labels": pq.read_metadata(bucket / f"address-labels/{network}_address_labels.parquet").num_rows,
        }
        for network in NETWORKS
        for day in DAYS
    }


def test_the_quickstart_loads_and_shows(tried: Tried) -> None:
    """What it prints as loaded is what the files hold."""
    assert "24 files downloaded, 24 tables loaded, 6 snapshots published" in tried.printed
    assert tried.printed.count("nothing was left to do") == 1
    assert len(tried.expected) == 6
    assert published(tried.printed) == tried.expected
    newest = max(day for day, network in tried.expected if network == "torus")
    shown = re.findall(r"│ (?:low|medium|high|critical) +│ +(\d+) │", tried.printed)
    assert sum(map(int, shown)) == tried.expected[newest, "torus"]["alerts"]
    assert "installing" not in tried.printed


def test_the_quickstart_starts_over(tried: Tried) -> None:
    """It does nothing twice and shows the same, in another shell too."""
    again = bash(tried.clone, "./scripts/quickstart")
    assert (again.returncode, again.stderr) == (0, "")
    assert "quickstart/ is here from an earlier time" in again.stdout
    assert again.stdout.count("nothing was left to do") == 2
    assert "downloaded" not in again.stdout
    assert published(again.stdout) == tried.expected


def test_a_shell_is_ready_afterwards(tried: Tried) -> None:
    """After `source quickstart/env.sh` every line that it prints to go on with works, whatever was set before."""
    advice = tried.printed.split("== how to go on\n")[1].splitlines()
    lines = [line.strip().partition("  ")[0] for line in advice]
    commands = [line for line in lines if re.match(r"(source|sot-ingest|luigi) ", line)]
    assert len(commands) == 4
    query = re.findall(r"^   (query .*)", tried.printed, re.MULTILINE)
    script = "\n".join(["set -e", *commands, *query, "command -v sot-ingest luigi"])
    done = bash(tried.clone, script, CLICKHOUSE_HOST="nowhere", SOT_S3_BUCKET="none", INGESTION_NETWORKS="none")
    assert done.returncode == 0, done.stderr
    assert "Forgot the proofs" in done.stderr
    assert "Published snapshot" in done.stderr
    assert str(tried.clone / ".venv" / "bin" / "luigi") in done.stdout
    refused = bash(tried.clone, 'source quickstart/env.sh; query "SELECT nothing"')
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr


def without(directory: Path, *programs: str) -> str:
    """Return a PATH with the few programs that the script needs before it has a Python, and these."""
    directory.mkdir()
    for name in ("bash", "env", "dirname", "basename", "cksum", "cat"):
        (directory / name).symlink_to(shutil.which(name) or name)
    for program in programs:
        path = directory / "python3"
        path.write_text(program)
        path.chmod(0o755)
    return str(directory)


def test_without_python_it_says_so(clone: Path, tmp_path: Path) -> None:
    """No Python, or only an old one: one line that says what is needed, and nothing is made."""
    (clone / ".venv").unlink()
    for number, programs in enumerate(([], ["#!/usr/bin/env bash\nexit 1\n"])):
        done = bash(clone, "./scripts/quickstart", PATH=without(tmp_path / f"bin-{number}", *programs))
        assert done.returncode == 1
        assert re.fullmatch(r"quickstart: needs Python 3\.11 or later; found none.*\n", done.stderr)
    assert not (clone / "quickstart").exists()


def test_without_venv_it_says_so(clone: Path, tmp_path: Path) -> None:
    """A Python that cannot make environments, as Debian's without python3-venv: the line names the package."""
    (clone / ".venv").unlink()
    python = f'#!/usr/bin/env bash\n[[ "$*" != *ensurepip* ]] && exec {sys.executable} "$@"\n'
    done = bash(clone, "./scripts/quickstart", PATH=without(tmp_path / "bin", python))
    assert done.returncode == 1
    assert re.fullmatch(r"quickstart: .*/python3 cannot make virtual environments; .*python3-venv\)\n", done.stderr)
    assert not (clone / "quickstart").exists()


def test_a_run_that_fails_ends_it(clone: Path) -> None:
    """The error of the run is shown, and where the log is; nothing is said to be loaded."""
    (clone / "quickstart").mkdir()
    (clone / "quickstart" / "warehouse").write_text("in the way")
    done = bash(clone, "./scripts/quickstart")
    assert done.returncode == 1
    assert "ERROR" in done.stderr
    assert "the whole log is quickstart/first-run.log" in done.stderr
    assert "what was loaded" not in done.stdout
