"""What steps tell the worker arrives whatever becomes of the processes that tell it, and what it tells them does."""

from __future__ import annotations

import os
import queue
import signal
import time
from pathlib import Path

import psutil
import pytest

from pipeline.runs.worker import Results, end_children


def told(results: Results) -> list[str]:
    """Return the tasks that are told of until nobody tells anything."""
    found = []
    while True:
        try:
            found.append(results.get(timeout=0.2)[0])
        except queue.Empty:
            return found


def test_a_process_that_is_killed_while_it_tells_stops_no_other() -> None:
    """One is killed as it waits for the worker to take what it sends; the next one's result arrives all the same."""
    results = Results()
    if (child := os.fork()) == 0:
        while True:
            results.put(("killed", "DONE", "", [], []))
    deadline = time.monotonic() + 30
    while psutil.Process(child).status() == psutil.STATUS_RUNNING and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert set(told(results)) == {"killed"}
    if os.fork() == 0:
        results.put(("next", "DONE", "", [], []))
        os._exit(0)
    os.wait()
    assert told(results) == ["next"]
    results.close()


def test_a_process_that_forgets_a_signal_clears_up(tmp_path: Path) -> None:
    """As Python does with one that comes before a forked process is ready."""
    if (parent := os.fork()) == 0:  # all children of this one are ended, and no server of other tests
        try:
            _end_a_forgetful_child(tmp_path)
        finally:
            os._exit(0)
    os.waitpid(parent, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"ready", "cleared", "ended"}


def _end_a_forgetful_child(directory: Path) -> None:
    if os.fork() == 0:

        def clear_up(_number: int, _frame: object) -> None:
            (directory / "cleared").touch()
            os._exit(0)

        signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, clear_up))
        (directory / "ready").touch()
        while True:
            signal.pause()
    while not (directory / "ready").exists():
        time.sleep(0.01)
    end_children()
    (directory / "ended").touch()


def test_an_explanation_of_any_length_arrives() -> None:
    """The longest is cut: what luigi's page shows of a failure must not keep the failure from being told."""
    results = Results()
    results.put(("task", "FAILED", "é" * 10_000_000, ["missing"], None))
    task_id, status, explanation, missing, new = results.get(timeout=10)
    assert (task_id, status, missing, new) == ("task", "FAILED", ["missing"], None)
    assert set(explanation) == {"é"}
    with pytest.raises(queue.Empty):
        results.get(timeout=0.01)
    results.close()
