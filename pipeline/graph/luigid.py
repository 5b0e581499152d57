"""luigid: whether it answers, what to do when it does not, and the tasks that it gave up on."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal

import luigi.configuration
from luigi.rpc import RemoteScheduler
from luigi.task_status import DISABLED

from pipeline.errors import SchedulerError

Scheduler = Literal["auto", "luigid", "local"]


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
