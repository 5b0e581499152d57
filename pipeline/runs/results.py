"""How the worker learns what became of a step, which ran in a process of its own or here."""

from __future__ import annotations

import pickle
import queue
import socket
from dataclasses import dataclass
from typing import Any

from pipeline.retry import Postponement

#: The most bytes of a result: the task's id, and what luigi's page shows of a failure.
_LONGEST = 1 << 17


class Results:
    """What processes of steps tell the worker, a datagram each: one that is killed has sent all of it, or nothing.

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


@dataclass(frozen=True)
class ResultOfWorker:
    """What a step tells that the worker itself does: nothing when it was postponed."""

    postponement: Postponement
    results: Any  #: of the worker, see Results

    def put(self, result: tuple[str, str, Any, Any, Any]) -> None:
        """Send a result; see Results."""
        if not self.postponement.is_needed:
            self.results.put(result)
