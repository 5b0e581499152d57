"""luigid: whether it answers, what to do when it does not, and the tasks that it gave up on."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import luigi.configuration
from loguru import logger
from luigi.rpc import RemoteScheduler
from luigi.task_status import DISABLED

from pipeline import journal, process
from pipeline.errors import SchedulerError

Scheduler = Literal["auto", "luigid", "local"]

#: Until then luigid has the steps of a run that was killed for running. Seconds between two tries meanwhile.
_DEAD_WORKER_SECONDS, _TRY_SECONDS = float(process.LUIGI_SETTINGS["scheduler"]["worker_disconnect_delay"]) + 10, 5.0


def url() -> str:
    """Return luigid's URL, as luigi.cfg or luigi's defaults say."""
    config = luigi.configuration.get_config()
    host = config.get("core", "default_scheduler_host", config.get("core", "scheduler_host", "localhost"))
    port = config.get("core", "default_scheduler_port", config.get("core", "scheduler_port", "8082"))
    given = config.get("core", "default_scheduler_url", config.get("core", "scheduler_url", ""))
    return str(given or f"http://{host}:{port}")


def problem() -> str | None:
    """Return why luigid cannot be used, or None: luigi itself would try for minutes and say less."""
    try:
        urllib.request.urlopen(urllib.request.Request(url(), method="HEAD"), timeout=10)  # noqa: S310  # our own setting
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return f"luigid at {url()} does not answer: {error}"
    return None


def run(arguments: Sequence[str], scheduler: Scheduler) -> int:
    """Run ``luigi`` with these arguments and return its exit code. Raises Interrupted.

    With ``auto`` luigid is asked, and done without when it does not answer, now or in the middle of the run. The caller
    keeps other runs of this deployment from the same snapshots.
    """
    if scheduler == "local" or ((why := problem()) and scheduler == "auto"):
        if scheduler == "auto":
            logger.warning("Running without luigid's page: {}", why)
        return process.run_luigi([*arguments, "--local-scheduler"])
    if why:
        hint = "start luigid, or say --scheduler auto or local"
        logger.bind(hint=hint).error("{}", why)
        journal.explain(why, hint)
        return process.EXIT_LUIGI
    code = _run_with_luigid(arguments)
    if scheduler == "auto" and code in {process.EXIT_NOT_RUN, process.EXIT_LUIGI} and (why := problem()):
        logger.warning("Going on without luigid: {}", why)
        return process.run_luigi([*arguments, "--local-scheduler"])
    return code


def _run_with_luigid(arguments: Sequence[str]) -> int:
    """Run until luigid has noticed that a run before this one was killed, or was restarted and forgot this one."""
    end, code = time.monotonic() + _DEAD_WORKER_SECONDS, process.run_luigi(arguments)
    if code == process.EXIT_NOT_RUN:
        code = process.run_luigi(arguments)
    while code == process.EXIT_ALREADY_RUNNING and time.monotonic() < end:
        time.sleep(_TRY_SECONDS)
        code = process.run_luigi(arguments)
    return code


@dataclass(frozen=True)
class BlockedTask:
    """A task that luigid does not let run any more, for it failed too often."""

    task_id: str
    step: str
    network: str  #: several, with commas, for a task about several
    date: str

    def is_of(self, network: str | None, date: str | None) -> bool:
        """Tell whether the task is about a network and a day; None stands for any."""
        return network in {None, *self.network.split(",")} and date in {None, self.date}


def unblock(network: str | None, date: str | None) -> list[BlockedTask]:
    """Let luigid run the disabled tasks of a network and a day again, and return them. Raises SchedulerError."""
    if why := problem():
        raise SchedulerError(why, hint="start luigid; a run with --scheduler local needs no unblocking")
    remote: Any = RemoteScheduler(url())  # its methods are made from the scheduler's
    found = remote.task_list(DISABLED, "", limit=False).items()
    blocked = [_blocked(id_, task) for id_, task in sorted(found)]
    return [task for task in blocked if task.is_of(network, date) and remote.re_enable_task(task.task_id)]


def _blocked(task_id: str, task: dict[str, Any]) -> BlockedTask:
    parameters = task["params"]
    networks = json.loads(parameters["networks"]) if "networks" in parameters else [parameters.get("network", "")]
    step = " ".join(filter(None, (task["name"], parameters.get("table"))))
    return BlockedTask(task_id, step, ",".join(networks), parameters.get("processing_date", ""))
