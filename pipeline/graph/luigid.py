"""luigid: whether it answers, what to do when it does not, and the tasks that it gave up on."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import luigi.configuration
from loguru import logger
from luigi.rpc import RemoteScheduler, RPCError
from luigi.task_status import DISABLED

from pipeline.errors import SchedulerError
from pipeline.graph import step_records

Scheduler = Literal["auto", "luigid", "local"]

HINT = (
    "start luigid, or correct [core] of luigi.cfg; without luigid: sot-ingest run --scheduler local, "
    "luigi --local-scheduler"
)
#: What is read of an answer to a single try, which is short when it is luigid's.
_SHORT_SECONDS, _SHORT_BYTES = 10.0, 10_000
_UNKNOWN_TASK = "sot-ingest-asks-whether-this-is-luigid"


class Luigid(RemoteScheduler):
    """luigid as luigi asks it; what answers in its place is an RPCError, too, and not a step's failure."""

    def __init__(self, address: str, tries: int | None = None) -> None:
        """Ask nothing yet. ``tries`` of each request, or as luigi is configured."""
        super().__init__(address)  # type: ignore[no-untyped-call]
        self._fetcher.session.max_redirects = 0  # a POST becomes a GET, and loses what was asked
        if tries:
            self._rpc_retry_attempts = tries
            self._fetcher.session.hooks["response"].append(_read_the_beginning)

    def _fetch(self, url_suffix: str, body: Any) -> str:
        """Return an answer of luigid's API. Raises RPCError, which says why there is none, without a login."""
        try:
            page = str(super()._fetch(url_suffix, body))  # type: ignore[no-untyped-call]
        except RPCError as error:
            raise RPCError(f"luigid at {_shown(self._url)} {_reason(error.sub_exception)}", error) from error
        if not page.startswith('{"response":'):
            begin = " ".join(page[:200].split())
            raise RPCError(f"{_shown(self._url)} is not luigid: it answered {begin!r}")
        return page


def _read_the_beginning(response: Any, **_: Any) -> None:
    """Read an answer to its end, or what came in time of one that has none: of a log or a stream of events, say.

    Byte by byte, for each may be waited for as long as the time-out of a connection.
    """
    begun, page = time.monotonic(), bytearray()
    for byte in response.iter_content(1):
        page += byte
        if len(page) >= _SHORT_BYTES or time.monotonic() - begun > _SHORT_SECONDS:
            response.close()
            break
    response._content = bytes(page)  # noqa: SLF001  # which requests would read to its end


def _shown(address: str) -> str:
    """Return a URL without the login that it can hold."""
    return address.replace(f"{urlsplit(address).netloc.rpartition('@')[0]}@", "")


def _reason(error: BaseException | None) -> str:
    """Return why luigi's client got no answer of luigid's."""
    response = getattr(error, "response", None)
    if response is not None:
        where = f" to {_shown(response.headers['location'])}" if "location" in response.headers else ""
        return f"is not luigid: it answered HTTP {response.status_code} {response.reason}{where}"
    while error and (cause := error.__cause__ or error.__context__):
        error = cause
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"does not answer: {why or type(error).__name__}"


def url() -> str:
    """Return luigid's URL, as luigi.cfg or luigi's defaults say."""
    config = luigi.configuration.get_config()
    host = config.get("core", "default_scheduler_host", config.get("core", "scheduler_host", "localhost"))
    port = config.get("core", "default_scheduler_port", config.get("core", "scheduler_port", "8082"))
    given = config.get("core", "default_scheduler_url", config.get("core", "scheduler_url", ""))
    return str(given or f"http://{host}:{port}")


def problem(address: str | None = None) -> str | None:
    """Return why luigid cannot be used, or None: luigi itself would try for minutes and say less."""
    try:
        with closing(Luigid(address or url(), tries=1)) as remote:
            answer: Any = remote.fetch_error(task_id=_UNKNOWN_TASK)  # type: ignore[attr-defined]  # luigi makes it
    except (RPCError, ValueError) as error:  # ValueError: what is no URL
        return str(error)
    if not isinstance(answer, dict) or answer.get("taskId") != _UNKNOWN_TASK:
        return f"{_shown(address or url())} is not luigid: it knows no API of luigid's"
    return None


_connected: list[str] = []  #: the URLs of luigids that this process works with


def connect(address: str) -> Luigid:
    """Return luigid at a URL. Raises SchedulerError, which is reported, when something else or nothing answers."""
    if why := problem(address):
        report(why)
        raise SchedulerError(why, hint=HINT)
    _connected.append(address)
    return Luigid(address)


def lost() -> str | None:
    """Return why the luigid that this process works with cannot be used any more; None when it can, or was not used."""
    return problem(_connected[-1]) if _connected else None


def report(why: str) -> None:
    """Log that luigid cannot be used, which ends the run."""
    logger.bind(hint=HINT).error("{}", why)
    step_records.set_cause(why, HINT)


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
    remote: Any = Luigid(url())  # its methods are made from the scheduler's
    found = remote.task_list(DISABLED, "", limit=False).items()
    blocked = [_blocked(id_, task) for id_, task in sorted(found)]
    return [task for task in blocked if task.is_of(network, date) and remote.re_enable_task(task.task_id)]


def _blocked(task_id: str, task: dict[str, Any]) -> BlockedTask:
    parameters = task["params"]
    networks = json.loads(parameters["networks"]) if "networks" in parameters else [parameters.get("network", "")]
    step = " ".join(filter(None, (task["name"], parameters.get("table"))))
    return BlockedTask(task_id, step, ",".join(networks), parameters.get("processing_date", ""))
