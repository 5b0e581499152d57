"""Answers of the warehouse, each asked for once however many clients want it, and kept for a moment.

A warehouse that does not answer is asked now and then, one question at a time; meanwhile clients are told so at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from loguru import logger

from pipeline.errors import PipelineError, WarehouseUnavailableError

T = TypeVar("T")

#: Questions to the warehouse at the same time; how many answers are kept; how long a client waits for one.
THREADS, MOST, PATIENCE = 4, 256, 5.0

RETRY_SECONDS = 5.0  #: between two questions to a warehouse that does not answer


@dataclass
class _Entry:
    """The newest answer to a question, or why there is none."""

    networks: frozenset[str]  #: whose warehouses are asked
    value: Any = None
    error: PipelineError | None = None
    until: float = 0.0  #: on the monotonic clock, how long it counts
    task: asyncio.Task[None] | None = None  #: that asks

    def result(self) -> Any:
        if self.error is not None:
            raise self.error.with_traceback(None)  # which would grow each time
        return self.value


class Answers:
    """What was asked of the warehouses lately. It belongs to one event loop."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._down: dict[str, PipelineError] = {}  #: networks whose warehouse does not answer, and what was seen
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="warehouse")

    async def get(self, key: Hashable, ask: Callable[[], T], *networks: str, seconds: float) -> T:
        """Return what ``ask`` returns, called in a thread when the last answer is older than ``seconds``.

        ``networks`` are those whose warehouses it asks. Raises PipelineError; WarehouseUnavailableError when no answer
        comes within PATIENCE seconds.
        """
        entry = self._entries.setdefault(key, _Entry(frozenset(networks)))
        self._entries.move_to_end(key)
        while len(self._entries) > MOST:
            self._entries.popitem(last=False)
        if time.monotonic() < entry.until:
            return cast("T", entry.result())
        down = next((self._down[network] for network in networks if network in self._down), None)
        if entry.task is None and not (down and self._is_asked(entry.networks)):
            entry.task = asyncio.create_task(self._ask(entry, ask, seconds))
        if down:
            raise down.with_traceback(None)
        if entry.task is not None:
            try:
                await asyncio.wait_for(asyncio.shield(entry.task), PATIENCE)
            except TimeoutError:
                said = f"the warehouse of {', '.join(networks)} has not answered for {PATIENCE:.0f} s"
                self._fail(entry, WarehouseUnavailableError(said, hint="see that ClickHouse runs"))
        return cast("T", entry.result())

    def _is_asked(self, networks: frozenset[str]) -> bool:
        """Tell whether a question to one of these warehouses is under way."""
        return any(entry.task is not None and entry.networks & networks for entry in self._entries.values())

    async def _ask(self, entry: _Entry, ask: Callable[[], Any], seconds: float) -> None:
        try:
            entry.value = await asyncio.get_running_loop().run_in_executor(self._pool, ask)
        except PipelineError as error:
            self._fail(entry, error)
            entry.until = time.monotonic() + RETRY_SECONDS
        else:
            entry.error, entry.until = None, time.monotonic() + seconds
            for network in entry.networks & self._down.keys():
                del self._down[network]
                logger.bind(network=network).info("Warehouse answers again")
        finally:
            entry.task = None

    def _fail(self, entry: _Entry, error: PipelineError) -> None:
        """Note that a question has no answer, and whose warehouse is down when only one was asked."""
        entry.error = error
        if len(entry.networks) == 1:
            (network,) = entry.networks
            if network not in self._down:
                logger.bind(network=network, hint=error.hint).warning("Warehouse does not answer: {}", error)
            self._down[network] = error

    def close(self) -> None:
        """Ask nothing more; a question under way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def changed(
    answer: Callable[[], Awaitable[T]],
    enough: Callable[[T], bool],
    *,
    seconds: float,
    every: float,
    stopping: asyncio.Event,
    gone: Callable[[], Awaitable[bool]],
) -> T:
    """Return the first answer that is enough, or the last one after ``seconds``, when stopping or when nobody waits."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        found = await answer()
        left = end - loop.time()
        if enough(found) or left <= 0 or stopping.is_set() or await gone():
            return found
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), min(every, left))
