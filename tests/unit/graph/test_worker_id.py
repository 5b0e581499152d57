"""An id tells a worker whose process has ended from one that may live, whatever host name and pid they share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.graph.worker_id import is_gone, is_of_deployment, new_id


def of(pid: int, work: Path, **facts: str) -> str:
    """Return the id of a worker of ours with another pid, and other facts."""
    given = new_id(work)
    for name, value in {"pid": str(pid), **facts}.items():
        given = re.sub(rf"{name}=[^,)]*", f"{name}={value}", given)
    return given


@pytest.fixture
def child() -> Iterator[int]:
    """A process that has ended, and is not waited for: a zombie."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


def test_a_process_that_has_ended_is_gone(tmp_path: Path, child: int) -> None:
    """Also while nobody has waited for it."""
    assert psutil.pid_exists(child)
    assert is_gone(of(child, tmp_path))
    assert not is_gone(of(child, tmp_path, host="elsewhere"))
    assert not is_gone(of(child, tmp_path, namespace="another-container"))


def test_a_pid_that_is_used_again(tmp_path: Path) -> None:
    """The process that has it now started at another time; of an id of luigi's own nothing is known."""
    assert is_gone(of(os.getppid(), tmp_path, started="1"))
    assert not is_gone(of(os.getppid(), tmp_path).partition(", namespace")[0] + ")")


def test_a_process_has_one_worker_after_another(tmp_path: Path) -> None:
    """Any other of its own is gone."""
    assert is_gone(new_id(tmp_path))


@pytest.mark.parametrize("worker", ["dead-worker", "", "Worker(salt=1, host=, pid=)", "Worker(pid=1)"])
def test_what_says_nothing(worker: str, tmp_path: Path) -> None:
    """Such a worker may live, and be anybody's."""
    assert not is_gone(worker)
    assert not is_of_deployment(worker, tmp_path)


def test_a_deployment_is_its_work_directory(tmp_path: Path) -> None:
    """By whichever path; before there is one it is nobody's."""
    work, link = tmp_path / "work", tmp_path / "link"
    assert not is_of_deployment(new_id(work), work)
    work.mkdir()
    link.symlink_to(work)
    assert is_of_deployment(new_id(work), link)
    assert not is_of_deployment(new_id(work), tmp_path)
