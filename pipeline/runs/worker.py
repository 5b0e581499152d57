"""The worker that luigi runs steps with: luigi's own, but that it works on a snapshot alone, waits its turn, leaves no
step behind, and outlives one that is killed.
"""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Any

import luigi.interface
import psutil
from luigi.rpc import RPCError
from luigi.task_status import DISABLED, DONE, FAILED, PENDING
from luigi.worker import TracebackWrapper, Worker

from pipeline.errors import PipelineError
from pipeline.graph import luigid, luigid_page, step_records, steps, worker_id
from pipeline.graph.base import SnapshotTask, StepTask
from pipeline.graph.context import get_context
from pipeline.graph.side_by_side import ask_side_by_side
from pipeline.retry import Postponement, postponing
from pipeline.runs.reconcile import Reconciliation, Wait
from pipeline.runs.results import ResultOfWorker, Results
from pipeline.snapshot import Snapshot
from pipeline.tasks import CleanUp, FindSnapshot, IngestDaily, IngestSnapshot, LoadTable, PublishSnapshot

#: How long a step may take to clear up after an interrupt: a query to kill, a line for the ledger.
CLEARING_SECONDS = 15
SIGNAL_SECONDS = 0.5  #: until it gets the signal again


class IngestWorker(Worker):
    """Locks and claims a snapshot before it schedules its steps, and waits for its turn, within limits.

    luigi's worker leaves when it is given nothing to do; its keep_alive stays after a failure too, and without a limit.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._task_result_queue.close()
        self._task_result_queue = Results()  # type: ignore[assignment]  # what luigi uses of a queue
        self._snapshots: dict[Snapshot, bool] = {}  #: those met, and whether they are this run's to work on
        self._locked: set[Snapshot] = set()  #: by this worker: a run may have locked some before
        self._left: dict[str, str] = {}  #: tasks left to other workers, and who these are
        self._wait = Wait()
        self._forks_all = False  #: even small steps, since a service was unavailable
        self._postponement: Postponement | None = None  #: of a step that this process does
        self._writes_elsewhere: set[str] = set()  #: steps of processes that forget their own answers alone
        self._prepared: set[str] = set()  #: networks whose tables this process looked at

    @cached_property
    def _reconciliation(self) -> Reconciliation:
        return Reconciliation(get_context(), self._scheduler, self._id, self._announce)

    # Scheduling

    def add(self, task: luigi.Task, multiprocess: bool = False, processes: int = 0) -> bool:  # noqa: ARG002  # luigi's
        """Schedule a task and what it needs; return whether each could say if it is complete."""
        self._first_task = self._first_task or task.task_id
        self.add_succeeded = True
        get_context().prepared.clear()
        get_context().answers.keep()
        if isinstance(task, IngestDaily):
            ask_side_by_side(get_context(), [needed.snapshot for needed in task.requires()])
        waiting, seen = deque([task]), {task.task_id}
        while waiting:
            found = waiting.popleft()
            for needed in self._add(found, self._look(found)):
                if needed.task_id not in seen:
                    seen.add(needed.task_id)
                    waiting.append(needed)
        return self.add_succeeded

    def _look(self, task: luigi.Task) -> bool | TracebackWrapper:
        """Tell whether a task is complete; before the first step of a snapshot is scheduled, lock and claim it."""
        try:
            complete = _check(task)
            if isinstance(task, SnapshotTask):
                step_records.add_requested(task.snapshot)
                if isinstance(task, FindSnapshot):
                    if not complete:
                        task.report_missing()
                elif not complete and task.snapshot not in self._snapshots:
                    self._snapshots[task.snapshot] = self._acquire(task)
                    complete = _check(task)
                if complete and isinstance(task, IngestSnapshot):
                    step_records.set_standing(task.snapshot, "done")
        except Exception:  # noqa: BLE001  # as luigi does: the run ends with 35, and what went wrong was reported
            if isinstance(task, SnapshotTask):
                step_records.set_standing(task.snapshot, "unknown")
            return TracebackWrapper(traceback.format_exc())
        return complete

    def _acquire(self, task: SnapshotTask) -> bool:
        """Lock the snapshot of a task, claim it if there is more to do than to clean up, and prepare its steps."""
        ownership, snapshot = get_context().ownership, task.snapshot
        with task.report_errors("Could not lock and claim the snapshot"):
            if not ownership.is_locked(snapshot):
                if not ownership.lock(snapshot):
                    return False
                self._locked.add(snapshot)
            if not task.clone(PublishSnapshot).check() and not ownership.claim(snapshot):
                return False
            steps.pin_manifest(get_context(), snapshot)
        get_context().answers.forget(snapshot=snapshot)
        return True

    def _add(self, task: luigi.Task, is_complete: Any) -> Iterator[luigi.Task]:
        if is_complete is False and isinstance(task, SnapshotTask) and not self._snapshots.get(task.snapshot, True):
            self._scheduled_tasks[task.task_id] = task
            self._add_task_history.append((task, PENDING, True))
            self._leave(task, "another run")
        else:
            yield from super()._add(task, is_complete)

    def _announce(self, task: luigi.Task, is_complete: bool) -> None:  # as luigi has it
        """Tell the scheduler of a task once more."""
        for _ in super()._add(task, is_complete):
            pass

    def _add_task(self, *args: Any, **kwargs: Any) -> None:
        super()._add_task(*args, **kwargs)
        task = self._scheduled_tasks.get(kwargs["task_id"])
        if kwargs["status"] in {DONE, FAILED} and kwargs["task_id"] in self._writes_elsewhere:
            get_context().answers.forget()
        if kwargs["status"] == DONE and isinstance(task, CleanUp):
            step_records.set_standing(task.snapshot, "done")
            self._release(task.snapshot)

    def _release(self, snapshot: Snapshot) -> None:
        ownership = get_context().ownership
        ownership.release_claim(snapshot)
        if snapshot in self._locked:
            self._locked.discard(snapshot)
            ownership.release(snapshot)

    # Running

    def run(self) -> bool:
        """Run the steps, large ones in a process of their own where there are two at a time."""
        pending = {task.task_id: task for task in self._of_status(PENDING)}
        self._reconciliation.correct_running(pending, {task.task_id: task for task in self._of_status(DONE)})
        try:
            succeeded = bool(super().run())
        finally:
            get_context().answers.keep_none()
        left = [{"task_id": task_id, "worker": worker} for task_id, worker in self._left.items()]
        self._get_work_response_history.append({"task_id": None, "running_tasks": left})  # luigi's way to exit code 10
        return succeeded

    def _run_task(self, task_id: str) -> None:
        """Run a step in a process of its own, a small one here unless a service is unavailable: nothing waits here."""
        if self._is_for_worker(self._scheduled_tasks[task_id]):
            with postponing() as self._postponement:
                super()._run_task(task_id)
            if not self._postponement.is_needed:
                return
            del self._running_tasks[task_id]
            self._forks_all = True
        self._postponement = None
        super()._run_task(task_id)

    def _create_task_process(self, task: luigi.Task) -> Any:
        process = super()._create_task_process(task)
        process.check_complete = _check
        if self._postponement is not None:
            process.use_multiprocessing = False
            process.result_queue = ResultOfWorker(self._postponement, self._task_result_queue)
        elif isinstance(task, LoadTable):
            self._prepare_tables(task.network)
        if process.use_multiprocessing:
            _prepare_to_fork()
            if isinstance(task, StepTask) and task.writes:
                self._writes_elsewhere.add(task.task_id)
        return process

    def _is_for_worker(self, task: luigi.Task) -> bool:
        """Tell whether the worker itself does a step that could have a process of its own.

        Not when luigi.cfg says otherwise: only another process can be ended after ``timeout`` seconds.
        """
        must_fork = self._config.force_multiprocessing or self._config.timeout or self._forks_all
        if self.worker_processes == 1 or must_fork or not isinstance(task, SnapshotTask):
            return False
        try:
            return task.is_small
        except (PipelineError, OSError):  # for the step to tell
            return False

    def _prepare_tables(self, network: str) -> None:
        """Spare the processes of loads a look at the same tables. What is wrong with these is for the loads to tell."""
        if network not in self._prepared:
            self._prepared.add(network)
            with contextlib.suppress(PipelineError):
                steps.prepare_tables(get_context(), network)

    def _get_work(self) -> Any:
        response = super()._get_work()
        self._get_work_response_history.clear()  # a task that another worker was at once is not that worker's for ever
        if response.task_id is not None:
            self._wait = Wait()
        return response

    def _keep_alive(self, get_work_response: Any) -> bool:  # noqa: ARG002  # luigi's
        """Tell whether to ask for work once more: while a step is ready, luigid is not paused, and no limit is over."""
        get_context().answers.forget()  # what is waited for is another worker's work
        ready = list(self._ready())
        if self._stop_requesting_work or not ready or self._scheduler.is_paused()["paused"]:
            return False
        needed = {needed.task_id: needed for task in ready for needed in task.deps()}
        obstacles = self._reconciliation.obstacles(ready, needed.values(), lambda task: self._look(task) is True)
        if len(ready) == sum(found.why == DISABLED for found in obstacles):
            return False
        others = [found for found in obstacles if found.worker]
        if self._wait.goes_on(others, corrected=len(obstacles) < len(ready)):
            return True
        for found in others:
            self._leave(self._scheduled_tasks[found.task_id], found.worker)
        return False

    def _leave(self, task: luigi.Task, worker: str) -> None:
        """Leave a task to another worker."""
        self._left[task.task_id] = worker
        if isinstance(task, SnapshotTask):
            step_records.set_standing(task.snapshot, "left")

    def _ready(self) -> Iterator[luigi.Task]:
        """Yield the tasks that nothing has become of yet and whose inputs are all there."""
        done = {task.task_id for task in self._of_status(DONE)}
        for task in self._of_status(PENDING):
            if not isinstance(task, luigi.ExternalTask) and all(needed.task_id in done for needed in task.deps()):
                yield task

    def _of_status(self, wanted: str) -> Iterator[luigi.Task]:
        """Yield the tasks that this worker last reported with this status."""
        last = {task.task_id: (task, status) for task, status, _ in self._add_task_history}
        for task, status in last.values():
            if status == wanted and task.task_id not in self._left:
                yield task

    # Ending

    def __exit__(self, type_: Any, value: Any, traceback_: Any) -> Any:
        """End every step that still runs, then what luigi ends, and let other runs have the snapshots.

        luigi ends the processes it knows of. It does not know the one that it is forking when the signal comes, it
        waits for each without a limit, and it leaves luigid to find out.
        """
        try:
            if isinstance(value, KeyboardInterrupt):
                end_children()
                if self._running_tasks:
                    self._reconciliation.report_ended(self._running_tasks)
            elif value is None:
                self._show_missing()
            return super().__exit__(type_, value, traceback_)
        finally:
            for snapshot in self._snapshots:
                self._release(snapshot)

    def _show_missing(self) -> None:
        """Show the snapshots that were not found as failed on luigid's page, and nothing as waiting for them."""
        waited_for = (task for task in self._of_status(PENDING) if isinstance(task, FindSnapshot))
        missing = {task.task_id: task.on_failure(task.absence) for task in waited_for if task.absence}
        with contextlib.suppress(RPCError):
            luigid_page.show_missing(self._scheduler, self._id, missing)


def _check(task: luigi.Task) -> bool:
    """Ask whether a task is complete, as a run does where the task says how."""
    return bool(getattr(task, "check", task.complete)())


@cache
def _prepare_to_fork() -> None:
    """Spare the processes of steps what takes long: to import pyarrow, 0.2 s, and to look for garbage here, 0.04 s.

    One that looked for garbage among all that was imported before would copy that memory.
    """
    import pyarrow.parquet  # noqa: F401, PLC0415  # not before the first step

    gc.freeze()


def end_children() -> None:
    """Terminate all that this process has forked, and kill what has not cleared up after CLEARING_SECONDS.

    A process that was forked this moment forgets a signal: Python clears what came before it was ready. So each gets
    it again until it has ended; one that is clearing up takes no notice.
    """
    children = psutil.Process().children(recursive=True)
    deadline = time.monotonic() + CLEARING_SECONDS
    while children and time.monotonic() < deadline:
        children = _ended(children, psutil.Process.terminate, SIGNAL_SECONDS)
    _ended(children, psutil.Process.kill, None)


def _ended(
    children: list[psutil.Process], end: Callable[[psutil.Process], None], seconds: float | None
) -> list[psutil.Process]:
    """Tell processes to end, wait so long, and return those that are still there."""
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            end(child)
    return psutil.wait_procs(children, timeout=seconds)[1]


class Factory(luigi.interface._WorkerSchedulerFactory):  # noqa: SLF001  # what luigi's own commands make workers with
    """Makes workers of ours, and uses luigid only where it is luigid that answers."""

    def create_remote_scheduler(self, url: Any) -> luigid.Luigid:
        """Return luigid. Raises SchedulerError, which is reported, when something else or nothing answers."""
        return luigid.connect(url)

    def create_worker(self, scheduler: Any, worker_processes: Any, assistant: Any = False) -> Worker:
        """Return a worker."""
        return IngestWorker(
            scheduler=scheduler,
            worker_processes=worker_processes,
            assistant=assistant,
            worker_id=worker_id.new_id(get_context().settings.work_path),
        )


def install() -> None:
    """Let luigi's commands make workers of ours; they offer no other way to choose."""
    luigi.interface._WorkerSchedulerFactory = Factory  # type: ignore[misc]  # noqa: SLF001
