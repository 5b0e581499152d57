"""luigi parameters whose default is computed when a task is made, not when the module is imported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import luigi

from pipeline.settings import settings


def yesterday() -> date:
    """Return the UTC day before today."""
    return datetime.now(UTC).date() - timedelta(days=1)


class _ComputedDefault(luigi.Parameter[Any]):
    """Takes the default from a function unless the command line or the configuration gives a value."""

    def __init__(self, default: Callable[[], Any], **options: Any) -> None:
        super().__init__(**options)
        self._compute = default

    def has_task_value(self, task_name: str, param_name: str) -> bool:  # noqa: ARG002  # luigi's signature
        return True

    def task_value(self, task_name: str, param_name: str) -> Any:
        if super().has_task_value(task_name, param_name):
            return super().task_value(task_name, param_name)
        return self.normalize(self._compute())


class _Date(_ComputedDefault, luigi.DateParameter):
    pass


class _Int(_ComputedDefault, luigi.IntParameter):
    pass


class _List(_ComputedDefault, luigi.ListParameter[Any]):
    pass


def processing_date() -> Any:
    """Return the parameter for the UTC day that a snapshot describes; yesterday by default."""
    return _Date(yesterday, description="UTC day that the snapshot describes; yesterday by default")


def window_days() -> Any:
    """Return the parameter for the days of history; INGESTION_WINDOW_DAYS by default."""
    return _Int(lambda: settings().window_days, description="days of history in the snapshot")


def networks() -> Any:
    """Return the parameter for the networks; INGESTION_NETWORKS by default."""
    return _List(lambda: settings().networks, description='networks, as JSON: ["torus"]')
