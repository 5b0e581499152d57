"""What steps tell the worker arrives whatever becomes of the processes that tell it, and what it tells them does."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import luigi
import psutil
import pytest
from luigi.scheduler import Scheduler

from pipeline.errors import SourceUnavailableError
from pipeline.graph import step_records
from pipeline.graph.base import StepTask
from pipeline.graph.context import get_context
from pipeline.graph.ownership import Ownership
from pipeline.graph.steps import Facts
from pipeline.runs.results import Results
from pipeline.runs.worker import IngestWorker, end_children
from pipeline.settings import get_settings
from pipeline.snapshot import Snapshot
from pipeline.tasks import PublishSnapshot


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


DAY = date(2025, 8, 1)


class Step(StepTask):
    """A step that leaves a file named after the process that did it, and fails where a file says so."""

    directory: Path = luigi.PathParameter()
    is_small: bool = luigi.BoolParameter()

    def output(self) -> luigi.Target:
        """Return the file that a step leaves which did not fail."""
        return luigi.LocalTarget(self.directory / "done")

    def work(self) -> Facts:
        """Fail in a process for which a service is down."""
        (self.directory / f"in {os.getpid()}").touch()
        if (self.directory / f"down for {os.getpid()}").exists():
            raise SourceUnavailableError("down", hint="wait")
        (self.directory / "done").touch()
        return {}


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where steps leave their files, in a process whose settings say nothing else."""
    given = {"SOT_PATH": tmp_path, "WAREHOUSE_PATH": tmp_path / "none", "WORK_PATH": tmp_path / "work"}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(step_records, "record_step", lambda *_: None)
    for cached in (get_settings, get_context):
        cached.cache_clear()
    yield tmp_path
    for cached in (get_settings, get_context):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("is_small", "is_down", "here", "elsewhere"),
    [(True, False, 1, 0), (False, False, 0, 1), (True, True, 1, 1)],
    ids=["small", "large", "small, service unavailable"],
)
def test_which_process_does_a_step(directory: Path, is_small: bool, is_down: bool, here: int, elsewhere: int) -> None:
    """A small one the worker itself, but for what it would have to wait for: that gets a process of its own."""
    if is_down:
        (directory / f"down for {os.getpid()}").touch()
    step = a_step(directory, is_small=is_small)
    worker = a_worker(step)
    worker._run_task(step.task_id)
    result = worker._task_result_queue.get(timeout=30)
    assert result[:2] == (step.task_id, "DONE"), result
    assert (directory / f"in {os.getpid()}").exists() == bool(here)
    assert len(list(directory.glob("in *"))) == here + elsewhere
    with pytest.raises(queue.Empty):
        worker._task_result_queue.get(timeout=0.01)


def asked(answers: Iterator[int]) -> int:
    """Ask as targets do: another answer each time that the question reaches the warehouse."""
    return get_context().answers.ask("publications", Snapshot("torus", DAY, 195), lambda: next(answers))


@pytest.fixture
def answers(directory: Path) -> Iterator[int]:  # noqa: ARG001  # whose context it is
    """What the warehouse answers, the first of which is known to the run."""
    get_context().answers.keep()
    found = iter(range(1, 10))
    assert [asked(found), asked(found)] == [1, 1]
    return found


def a_step(directory: Path, *, is_small: bool) -> Step:
    """Return a step that writes rows, so to speak."""
    step = Step(network="torus", processing_date=DAY, window_days=195, directory=directory, is_small=is_small)
    step.writes = "publications"
    return step


def a_worker(*tasks: Step) -> IngestWorker:
    """Return a worker that was given tasks."""
    worker = IngestWorker(scheduler=Scheduler(), worker_processes=2)
    worker._scheduled_tasks.update({task.task_id: task for task in tasks})
    return worker


def test_after_an_outage_each_small_step_has_its_own_process(directory: Path) -> None:
    """One that waits for a service keeps no other step waiting."""
    (directory / f"down for {os.getpid()}").touch()
    first = a_step(directory, is_small=True)
    (other := directory / "other").mkdir()
    second = a_step(other, is_small=True)
    worker = a_worker(first, second)
    for step in (first, second):
        worker._run_task(step.task_id)
        assert worker._task_result_queue.get(timeout=30)[:2] == (step.task_id, "DONE")
    assert not (other / f"in {os.getpid()}").exists()


def test_what_a_forked_step_wrote_is_asked_for_anew(directory: Path, answers: Iterator[int]) -> None:
    """It forgets in its own process alone; the worker does so with the result."""
    step = a_step(directory, is_small=False)
    worker = a_worker(step)
    worker._run_task(step.task_id)
    assert asked(answers) == 1
    worker._handle_next_task()  # type: ignore[no-untyped-call]  # luigi's
    assert asked(answers) == 2


def test_what_is_waited_for_is_asked_for_anew(directory: Path, answers: Iterator[int]) -> None:
    """Another worker writes it."""
    assert not a_worker(a_step(directory, is_small=True))._keep_alive(None)
    assert asked(answers) == 2


def test_what_was_known_before_a_claim_is_asked_for_anew(
    directory: Path, answers: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that had the claim before may have published."""
    monkeypatch.setattr(Ownership, "is_locked", lambda *_: True)
    monkeypatch.setattr(Ownership, "claim", lambda *_: True)
    monkeypatch.setattr(PublishSnapshot, "check", lambda _: False)
    step = a_step(directory, is_small=True)
    assert a_worker(step)._acquire(step)
    assert asked(answers) == 2
