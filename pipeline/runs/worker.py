"""The worker that luigi runs steps with: luigi's own, but that it waits its turn, leaves no step behind, and outlives
one that is killed.
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import queue
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import luigi.interface
import psutil
from luigi.rpc import RPCError
from luigi.task_status import DONE, FAILED, PENDING
from luigi.worker import Worker

from pipeline.graph import luigid, luigid_page

#: How long a step may take to clear up after an interrupt: a query to kill, a line for the ledger.
CLEARING_SECONDS = 15
TELLING_SECONDS = 0.5  #: until it is told of the interrupt again

#: The most bytes of a result: the task's id, and what luigi's page shows of a failure.
_LONGEST = 1 << 17


class Results:
    """What processes of steps tell the worker, a datagram each: one that is killed has told all of it, or nothing.

    A multiprocessing.Queue has a lock, which a process that is killed can keep for ever, and with it the whole run.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST)

    def put(self, result: tuple[str, str, Any, Any, Any]) -> None:
        """Send a result: task, status, explanation, missing tasks, and new ones; an explanation may be cut."""
        task_id, status, explanation, *rest = result
        if isinstance(explanation, str):
            explanation = explanation[: _LONGEST // 8]
        self._sender.send(pickle.dumps((task_id, status, explanation, *rest)))

    def get(self, timeout: float) -> Any:
        """Return the next result. Raises queue.Empty when none comes in time."""
        self._receiver.settimeout(timeout)
        try:
            return pickle.loads(self._receiver.recv(_LONGEST))  # noqa: S301  # from a process that we forked
        except TimeoutError:
            raise queue.Empty from None

    def close(self) -> None:
        """Take no result any more."""
        self._receiver.close()
        self._sender.close()


class IngestWorker(Worker):
    """Stays while a step of its own waits for nothing but a resource that another run uses.

    luigi's worker leaves when it is given nothing to do, and its keep_alive stays after a failure, too.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._task_result_queue.close()
        self._task_result_queue = Results()  # type: ignore[assignment]  # what luigi uses of a queue

    def run(self) -> bool:
        """Run the steps, each in a process of its own where there are two at a time.

        A process that looked for garbage among all that was imported before would copy that memory: 0.04 s a step.
        """
        if self.worker_processes > 1:
            gc.freeze()
        return bool(super().run())

    def __exit__(self, type_: Any, value: Any, traceback: Any) -> Any:
        """End every step that still runs, say what was not found, then end what luigi ends.

        luigi ends the processes it knows of. It does not know the one that it is forking when the signal comes, and
        it waits for each without a limit.
        """
        if isinstance(value, KeyboardInterrupt):
            end_children()
        elif value is None:
            waited_for = [task for task, status, _ in self._add_task_history if status == PENDING]
            missing = {
                task.task_id: task.on_failure(task.absence) for task in waited_for if getattr(task, "absence", None)
            }
            with contextlib.suppress(RPCError):
                luigid_page.show_missing(self._scheduler, self._id, missing)
        return super().__exit__(type_, value, traceback)

    def _keep_alive(self, get_work_response: Any) -> bool:
        return bool(get_work_response.n_pending_tasks) and any(map(self._is_pending, self._ready()))

    def _ready(self) -> Iterator[str]:
        """Yield the tasks whose inputs are all there and that have not been given to this worker."""
        done = {task.task_id for task, status, _ in self._add_task_history if status == DONE}
        over = done | {task.task_id for task, status, _ in self._add_task_history if status == FAILED}
        for id_, task in self._scheduled_tasks.items():
            if id_ not in over and task.process_resources() and all(needed.task_id in done for needed in task.deps()):
                yield id_

    def _is_pending(self, task_id: str) -> bool:
        """Ask the scheduler, where other runs may have done the task, or failed."""
        return task_id in self._scheduler.task_search(task_id).get(PENDING, {})


def end_children() -> None:
    """Terminate all that this process has forked, and kill what has not cleared up after CLEARING_SECONDS.

    A process that was forked this moment forgets a signal: Python clears what came before it was ready. So each is told
    again until it has ended; one that is clearing up takes no notice.
    """
    children = psutil.Process().children(recursive=True)
    deadline = time.monotonic() + CLEARING_SECONDS
    while children and time.monotonic() < deadline:
        children = _ended(children, psutil.Process.terminate, TELLING_SECONDS)
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
        return IngestWorker(scheduler=scheduler, worker_processes=worker_processes, assistant=assistant)


def install() -> None:
    """Let luigi's commands make workers of ours; they offer no other way to choose."""
    luigi.interface._WorkerSchedulerFactory = Factory  # type: ignore[misc]  # noqa: SLF001
