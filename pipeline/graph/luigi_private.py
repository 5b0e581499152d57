"""What we use of luigi and what luigi promises nobody: all its private names, in this module only.

pyproject.toml bounds luigi for them; tests/unit/graph/test_luigi_private.py says which is gone after an upgrade.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import luigi.interface
from luigi.rpc import RemoteScheduler
from luigi.worker import Worker

#: The private names, by what has them.
NAMES = {
    "luigi.interface": ("_WorkerSchedulerFactory",),
    "Worker": ("_add_task_history", "_keep_alive", "_scheduled_tasks", "_scheduler", "_task_result_queue"),
    "RemoteScheduler": ("_rpc_retry_attempts",),
    "TaskStatusReporter": ("_scheduler",),
}


class OpenWorker(Worker):
    """luigi's worker, with what subclasses use of its private parts under names of ours."""

    @property
    def scheduler(self) -> Any:
        """The scheduler that is asked for work: luigid's stand-in, or one in this process."""
        return self._scheduler

    @property
    def scheduled(self) -> dict[str, luigi.Task]:
        """The tasks that were given to the scheduler, by their ids."""
        return self._scheduled_tasks

    @property
    def history(self) -> list[tuple[luigi.Task, str, bool]]:
        """What was reported to the scheduler: a task, its status, and whether it can run."""
        return self._add_task_history

    def replace_results(self, results: Any) -> None:
        """Take results of steps from another queue: luigi uses its put, get and close."""
        self._task_result_queue.close()
        self._task_result_queue = results

    def _keep_alive(self, get_work_response: Any) -> bool:
        return self.stays(get_work_response.n_pending_tasks)

    def stays(self, pending: int) -> bool:
        """Tell whether to ask for work again after there was none; ``pending`` tasks of this worker are not done."""
        raise NotImplementedError


def use_worker(class_: type[Worker], connect: Callable[[str], RemoteScheduler]) -> None:
    """Let luigi's commands make workers of this class and connect to luigid so; they offer no other way to choose."""

    class Factory(luigi.interface._WorkerSchedulerFactory):  # noqa: SLF001
        def create_remote_scheduler(self, url: Any) -> RemoteScheduler:
            return connect(url)

        def create_worker(self, scheduler: Any, worker_processes: Any, assistant: Any = False) -> Worker:
            return class_(scheduler=scheduler, worker_processes=worker_processes, assistant=assistant)

    luigi.interface._WorkerSchedulerFactory = Factory  # type: ignore[misc]  # noqa: SLF001


def call_once(method: Callable[[Any], None], value: int | str) -> None:
    """Call a method that luigi gives a task while a worker runs it, without luigi's retries. Raises RPCError."""
    scheduler = method.__self__._scheduler  # type: ignore[attr-defined]  # noqa: SLF001
    attempts = getattr(scheduler, "_rpc_retry_attempts", None)  # a scheduler in this process has none
    try:
        scheduler._rpc_retry_attempts = 1  # noqa: SLF001
        method(value)
    finally:
        scheduler._rpc_retry_attempts = attempts  # noqa: SLF001
