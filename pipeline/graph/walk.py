"""What a run would do with a snapshot: the graph walked from its end, and the target of each task asked."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import luigi
from luigi.task_register import load_task

from pipeline.snapshot import Snapshot


@dataclass(frozen=True)
class PendingStep:
    """A step that is not done."""

    step: str  #: the task's name
    tables: tuple[str, ...] = ()  #: those that it is not done for, when it is about tables

    def __str__(self) -> str:
        return f"{self.step} {', '.join(self.tables)}".rstrip()


def pending_steps(snapshot: Snapshot) -> list[PendingStep]:
    """Return the steps that are to be done, the next one first; none when the snapshot is published and cleaned up.

    As luigi does: what a task needs is asked only when the task is not done. Whether there is a snapshot at the source
    is not asked, nor anything written. Raises SourceError, WarehouseError.
    """
    found: list[Any] = []
    level = [_last_task(snapshot)]
    while level:
        level = [task for task in level if not isinstance(task, luigi.ExternalTask) and not task.output().exists()]
        found = [*level, *found]
        level = list(dict.fromkeys(needed for task in level for needed in task.deps()))
    tables: dict[str, list[str]] = defaultdict(list)
    for task in found:
        tables[task.task_family] += [task.table] if hasattr(task, "table") else []
    return [PendingStep(step, tuple(dict.fromkeys(names))) for step, names in tables.items()]


def _last_task(snapshot: Snapshot) -> Any:
    """Return the task that all others of a snapshot come before; luigi knows by its name what is defined above us."""
    values = {name: str(value) for name, value in vars(snapshot).items()}
    return load_task("pipeline.tasks", "CleanUp", values)
