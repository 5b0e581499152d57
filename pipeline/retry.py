"""Trying again: the tries of one call, with exponential backoff, and the attempts of a step, a fixed time apart.

Only errors whose type says that trying again can help are tried again (:attr:`PipelineError.transient`), and a call by
one layer alone: an error that :func:`retry_call` gave up on goes through every other one around it. So a dead service
is asked ``attempts × tries`` times. The attempts are made here and not by luigi's scheduler, so that they are the same
with and without luigid, and so that bad data, a refused login or a missing snapshot ends a run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from loguru import logger
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_fixed,
    wait_random,
)

from pipeline.errors import PipelineError

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again can help without anybody doing anything."""
    return isinstance(error, PipelineError) and error.transient


def _is_untried(error: BaseException) -> bool:
    """Tell whether no layer has tried the call again yet."""
    return isinstance(error, PipelineError) and error.transient and error.tries == 1


@dataclass(frozen=True)
class RetryPolicy:
    """Tries and waits of one call; every duration is in seconds.

    The default gives a service 15 to 20 s to come back. A longer outage is waited out by the step's next attempt.
    """

    tries: int = 5  #: in a row without a byte of progress
    first_wait: float = 1.0  #: doubles from try to try; up to this much more is added at random
    longest_wait: float = 30.0
    connect_timeout: float = 10.0  #: of S3; of ClickHouse see pipeline.clickhouse
    read_timeout: float = 60.0  #: of S3, for one read from the socket, not for the whole answer

    def retrying(self) -> Retrying:
        """Try a call again on transient errors; the last one is raised with the number of tries."""
        return Retrying(
            retry=retry_if_exception(_is_untried),
            stop=stop_after_attempt(self.tries),
            wait=wait_exponential(self.first_wait, max=self.longest_wait) + wait_random(0, self.first_wait),
            before_sleep=_log_retry,
            retry_error_callback=_give_up,
        )


DEFAULT = RetryPolicy()


def retry_call(call: Callable[[], T]) -> T:
    """Call until it succeeds, for some 20 s at the most. Raises the last error."""
    return DEFAULT.retrying()(call)


class PostponedError(Exception):
    """A service is unavailable, and nobody is to wait here for the next attempt."""


@dataclass
class Postponement:
    """Whether a step was given up at its first attempt, for another process to wait for the next one."""

    is_needed: bool = False

    def call(self, call: Callable[[], T]) -> T:
        """Call once. Raises PostponedError where trying again can help, else the error."""
        try:
            return call()
        except PipelineError as error:
            if not is_transient(error):
                raise
            self.is_needed = True
            raise PostponedError from error


_postponement: ContextVar[Postponement | None] = ContextVar("postponement", default=None)


@contextmanager
def postponing() -> Iterator[Postponement]:
    """Let :func:`retry_step` not wait in the block: it raises PostponedError instead."""
    postponement = Postponement()
    token = _postponement.set(postponement)
    try:
        yield postponement
    finally:
        _postponement.reset(token)


def retry_step(call: Callable[[], T], *, attempts: int, delay: float) -> T:
    """Call up to ``attempts`` times, ``delay`` seconds apart. Raises the last error; see also :func:`postponing`."""

    if attempts > 1 and (postponement := _postponement.get()) is not None:
        return postponement.call(call)

    def say(state: RetryCallState) -> None:
        logger.bind(attempt=state.attempt_number, of=attempts, wait_seconds=delay).warning(
            "Service is unavailable, waiting for the next attempt: {}", _error_of(state)
        )

    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(attempts),
        wait=wait_fixed(delay),
        before_sleep=say,
        reraise=True,
    )(call)


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _log_retry(state: RetryCallState) -> None:
    logger.bind(
        error=str(_error_of(state)), tries=state.attempt_number, wait_seconds=round(state.upcoming_sleep, 1)
    ).debug("Service did not answer; trying again")


def _give_up(state: RetryCallState) -> NoReturn:
    error = _error_of(state)
    if not isinstance(error, PipelineError):  # retrying() lets nothing else come here
        raise TypeError(f"gave up on {error!r}")
    error.tries = state.attempt_number
    error.args = (f"{error}, {error.tries} tries in a row",)
    raise error
