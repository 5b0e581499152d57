"""What luigid has wrong about a run's steps, corrected, so that a run waits for no worker that has ended.

While luigid has a step as running it ignores what other workers say of it, and a worker that was killed never says how
the step ended: luigid notices after worker_disconnect_delay. So what a target has proven is marked as done whoever ran
it, and what a worker was running that has certainly ended is reported as failed in that worker's name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import luigi
from loguru import logger
from luigi.rpc import RPCError
from luigi.task_status import DISABLED, DONE, FAILED, PENDING, RUNNING

from pipeline.graph import worker_id
from pipeline.graph.context import Context
from pipeline.graph.luigi_settings import LUIGI_SETTINGS


@dataclass(frozen=True)
class Obstacle:
    """Why luigid does not give this run a step that is ready."""

    task_id: str
    why: str  #: DISABLED, RUNNING elsewhere, or PENDING: for a resource, or for no reason that is known
    worker: str = ""  #: that runs the step, or another one that holds the resource


@dataclass
class Reconciliation:
    """Compares what a worker knows of its tasks with what luigid knows of them."""

    context: Context
    scheduler: Any  #: luigid, or luigi's scheduler in this process
    worker: str  #: the id of this run's worker
    announce: Callable[[luigi.Task, bool], None]  #: tells the scheduler of a task, and whether it is complete

    def correct_running(self, pending: Mapping[str, luigi.Task], done: Mapping[str, luigi.Task]) -> None:
        """Correct what is not running: this worker's tasks, given as pending and done, and any of an ended worker."""
        for task_id, known in self._running().items():
            if task_id in done:
                self.scheduler.mark_as_done(task_id=task_id)
            elif self._has_ended(known["worker_running"], pending.get(task_id)):
                self._fail(task_id, known["worker_running"])
                if task_id in pending:
                    self.announce(pending[task_id], False)

    def obstacles(
        self, ready: Iterable[luigi.Task], done: Iterable[luigi.Task], check: Callable[[luigi.Task], bool]
    ) -> list[Obstacle]:
        """Correct luigid about tasks that are ready, and about those done that they need; return what stays.

        ``check`` tells whether a task is complete that luigid has as done.
        """
        for task in done:
            status = self._look(task.task_id).get("status")
            if status == RUNNING:
                self.scheduler.mark_as_done(task_id=task.task_id)
            elif status != DONE:
                self.announce(task, True)
        running = self._running()
        return [found for task in ready if (found := self._obstacle(task, running, check))]

    def _obstacle(
        self, task: luigi.Task, running: dict[str, Any], check: Callable[[luigi.Task], bool]
    ) -> Obstacle | None:
        known = self._look(task.task_id)
        status, owner = known.get("status"), str(known.get("worker_running") or "")
        if status == DISABLED:
            return Obstacle(task.task_id, DISABLED)
        if status == RUNNING and owner != self.worker:
            if not self._has_ended(owner, task):
                return Obstacle(task.task_id, RUNNING, owner)
            self._fail(task.task_id, owner)
        if status == PENDING and self.worker in known["workers"]:
            needed = set(task.process_resources())
            holders = [
                each["worker_running"] for each in running.values() if needed & set(each["resources_running"] or ())
            ]
            return Obstacle(task.task_id, PENDING, str(holders[0]) if holders else "")
        if status != RUNNING or owner != self.worker:
            self.announce(task, status == DONE and check(task))
        return None

    def _running(self) -> dict[str, Any]:
        found: dict[str, Any] = self.scheduler.task_list(RUNNING, "", limit=False)
        return {
            task_id: known for task_id, known in found.items() if known["worker_running"] not in {self.worker, None}
        }

    def _look(self, task_id: str) -> dict[str, Any]:
        """Return what the scheduler knows of a task: nothing after a restart without its state."""
        found: dict[str, dict[str, Any]] = self.scheduler.task_search(task_id)
        return next((tasks[task_id] for tasks in found.values() if task_id in tasks), {})

    def _has_ended(self, worker: str, task: luigi.Task | None) -> bool:
        """Tell whether a worker's process has ended, or its run: this one holds the lock that it would need."""
        if worker_id.is_gone(worker):
            return True
        snapshot = getattr(task, "snapshot", None)
        locked = snapshot is not None and self.context.ownership.is_locked(snapshot)
        return locked and worker_id.is_of_deployment(worker, self.context.settings.work_path)

    def report_ended(self, task_ids: Iterable[str]) -> None:
        """Report steps of this worker as failed, for it ends. One try: an end is not held up by luigid."""
        self.scheduler._rpc_retry_attempts = 1  # noqa: SLF001  # luigi offers no other way
        with contextlib.suppress(RPCError):
            for task_id in task_ids:
                self._fail(task_id, self.worker)

    def _fail(self, task_id: str, worker: str) -> None:
        expl = '"the run was ended; another run goes on from here"'
        self.scheduler.add_task(worker=worker, task_id=task_id, status=FAILED, runnable=False, expl=expl)


#: Until then luigid has noticed that a worker ended: it has not heard of it for worker_disconnect_delay. Seconds.
ENDED_SECONDS = float(LUIGI_SETTINGS["scheduler"]["worker_disconnect_delay"]) + 10
#: The longest that a run waits for others to finish steps for which luigi.cfg has no more [resources]. Seconds.
TURN_SECONDS = 3_600.0


@dataclass
class Wait:
    """How long a worker has waited since it was given its last step, and whether it goes on."""

    idle_since: float | None = None  #: on the monotonic clock
    stuck_since: float | None = None  #: since when no other run explains why there is no work
    reported: str = ""  #: what was logged last

    def goes_on(self, others: Sequence[Obstacle], *, corrected: bool) -> bool:
        """Tell whether to wait longer, given the steps that are another worker's turn, and log what for.

        When luigid was ``corrected`` about a step, it is expected to give it the next time.
        """
        now = time.monotonic()
        self.idle_since = now if self.idle_since is None else self.idle_since
        if others and all(found.why == PENDING for found in others):
            self.stuck_since = None
            return self._within(
                now, self.idle_since, TURN_SECONDS, "Waiting for other runs to finish such steps", others
            )
        self.stuck_since = now if self.stuck_since is None else self.stuck_since
        if others:
            what = "Waiting for luigid to notice that the worker has ended which it says is running the step"
            return self._within(now, self.stuck_since, ENDED_SECONDS, what, others)
        what = self.reported if corrected else "Waiting for luigid to give work"
        return self._within(now, self.stuck_since, ENDED_SECONDS, what, others)

    def _within(self, now: float, since: float, limit: float, what: str, others: Sequence[Obstacle]) -> bool:
        first = others[0] if others else Obstacle("", PENDING)
        event = logger.bind(task=first.task_id or None, worker=first.worker or None, seconds=limit)
        if now - since > limit:
            hint = "see luigid's page, and sot-ingest status; a run with --scheduler local does without luigid"
            event.bind(hint=hint).warning("Gave up after {:g} s: {}", limit, what or "luigid gives no work")
            return False
        if what != self.reported:
            self.reported = what
            event.info(what)
        return True
