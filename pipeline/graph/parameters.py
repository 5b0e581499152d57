"""luigi parameters that say what is wrong with a value, and whose default is computed when a task is made."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

import luigi

from pipeline.dates import future_day, yesterday
from pipeline.errors import RequestError
from pipeline.settings import get_settings


def _refuse(problem: str) -> NoReturn:
    raise RequestError(problem, hint="luigi --module pipeline.tasks TASK --help shows what a task takes")


class _Checked(luigi.Parameter[Any]):
    """Parses a value or raises RequestError; takes the default from a function when no value is given.

    luigi computes a default when a module is imported, which freezes a date.
    """

    def __init__(self, default: Callable[[], Any], **options: Any) -> None:
        super().__init__(**options)
        self._compute = default

    def parse(self, x: str) -> Any:
        try:
            return super().parse(x)
        except (ValueError, TypeError) as error:  # a number, where luigi expects a list
            _refuse(f"{self.description}: found {x!r}: {error}")

    def has_task_value(self, task_name: str, param_name: str) -> bool:  # noqa: ARG002  # luigi's signature
        return True

    def task_value(self, task_name: str, param_name: str) -> Any:
        if super().has_task_value(task_name, param_name):
            return super().task_value(task_name, param_name)
        return self.normalize(self._compute())


def _check_networks(what: str | None, networks: tuple[Any, ...]) -> None:
    """Raise RequestError unless these are configured networks."""
    for name in networks:
        if problem := get_settings().unknown_network(str(name)):
            _refuse(f"{what}: {problem}")


class _Network(_Checked):
    def parse(self, x: str) -> str:
        _check_networks(self.description, (x,))
        return x


class _Date(_Checked, luigi.DateParameter):
    def parse(self, x: str) -> Any:
        day = super().parse(x)
        if problem := future_day(day):
            _refuse(f"{self.description}: {problem}")
        return day


class _Window(_Checked, luigi.IntParameter):
    def parse(self, x: str) -> Any:
        days = super().parse(x)
        return days if 1 <= days <= 65_535 else _refuse(f"{self.description}: found {days}, expected 1 to 65535")


class _Networks(_Checked, luigi.ListParameter[Any]):
    def parse(self, x: str) -> Any:
        names = super().parse(x) if x.startswith("[") else list(filter(None, map(str.strip, x.split(","))))
        if not names:
            _refuse(f"{self.description}: found {x!r}")
        _check_networks(self.description, tuple(names))
        return tuple(dict.fromkeys(names))


def network() -> Any:
    """Return the parameter for the network, which has no default."""
    return _Network(
        lambda: _refuse("--network: expected a network, for example torus"),
        description="--network (one of INGESTION_NETWORKS)",
    )


def processing_date() -> Any:
    """Return the parameter for the UTC day that a snapshot describes; yesterday by default."""
    return _Date(yesterday, description="--processing-date (UTC day of the snapshot; yesterday by default)")


def window_days() -> Any:
    """Return the parameter for the days of history; INGESTION_WINDOW_DAYS by default."""
    return _Window(lambda: get_settings().window_days, description="--window-days (days of history; as configured)")


def networks() -> Any:
    """Return the parameter for the networks; INGESTION_NETWORKS by default."""
    return _Networks(
        lambda: get_settings().networks,
        description="--networks (names, or a list of JSON; as configured)",
    )


def day_of_range(description: str) -> Any:
    """Return the parameter for an end of a range of days, which has no default."""
    return _Date(lambda: _refuse(f"{description}: expected a date, for example 2025-08-01"), description=description)


def snapshot_priority() -> Any:
    """Return the parameter that puts snapshots into an order; tasks that differ only by it are the same task.

    It is for tasks that make others: no command line names it, and --help does not show it.
    """
    return luigi.IntParameter(
        default=0,
        significant=False,
        positional=False,
        visibility=luigi.parameter.ParameterVisibility.HIDDEN,
        description=argparse.SUPPRESS,
    )
