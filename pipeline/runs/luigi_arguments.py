"""The command line of ``luigi``, read before anything starts: luigi answers most mistakes with a traceback."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import luigi
import luigi.interface
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import ParameterException
from luigi.task_register import Register, TaskClassNotFoundException

from pipeline import tasks
from pipeline.errors import RequestError, did_you_mean

#: How luigi names the parameter that has no value, or a wrong one.
_NAMED = re.compile(r"(?:requires the|default value of) '(\w+)'")
_HELP = "luigi --module pipeline.tasks TASK --help shows what a task takes"


def parse(arguments: Sequence[str]) -> tuple[luigi.Task, luigi.interface.core]:
    """Return the task, and what is said to luigi itself. Raises RequestError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), CmdlineParser.global_instance(list(arguments)) as parser:
            task, chosen = parser.get_task_obj(), luigi.interface.core()
    except TaskClassNotFoundException:
        name = _name_of_task(arguments)
        raise RequestError(f"{name} is no task of pipeline.tasks {did_you_mean(name, _tasks())}", hint=_HELP) from None
    except SystemExit as end:  # of argparse, which has written why, or of luigi, which says why
        problem = said.getvalue().rpartition("error: ")[2].strip() or str(end.code)
        raise RequestError(problem + _nearest_option(arguments, problem), hint=_HELP) from None
    except (ParameterException, ValueError) as error:
        named = _NAMED.search(str(error))
        problem = f"--{named[1].replace('_', '-')}: {error.__context__ or 'expected a value'}" if named else str(error)
        raise RequestError(problem, hint=_HELP) from None
    if isinstance(task, tasks.IngestRange) and task.last < task.first:
        raise RequestError(f"--last: {task.last} is before {task.first}", hint=_HELP)
    return task, chosen


def facts(task: luigi.Task) -> dict[str, Any]:
    """Return what the task is about, as the log says it of a run."""
    given = task.to_str_params(only_significant=True, only_public=True)
    networks = getattr(task, "networks", None) or [given.pop("network", "")]
    names = {"processing_date": "date", "first": "first", "last": "last"}
    days = {name: given[parameter] for parameter, name in names.items() if parameter in given}
    return {"task": task.task_family, **days, "networks": list(networks)}


def _name_of_task(arguments: Sequence[str]) -> str:
    return str(CmdlineParser._build_parser().parse_known_args(list(arguments))[0].root_task)  # noqa: SLF001  # as luigi finds it


def _tasks() -> list[str]:
    """Return the names of the graph's tasks."""
    families = (Register.get_task_cls(name) for name in Register.task_names())
    return [family.__name__ for family in families if family.__module__ == tasks.__name__]


def _nearest_option(arguments: Sequence[str], problem: str) -> str:
    """Return which option may be meant by the first one that luigi does not know, or ''."""
    words = problem.removeprefix("unrecognized arguments: ").split()
    option = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
    if option is None or words == problem.split():
        return ""
    parameters = [*Register.get_task_cls(_name_of_task(arguments)).get_params(), *luigi.interface.core.get_params()]
    names = [name for name, parameter in parameters if parameter.description != argparse.SUPPRESS]
    return f" {did_you_mean(option, ['--' + name.replace('_', '-') for name in names])}"
