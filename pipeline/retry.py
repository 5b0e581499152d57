"""Trying again: exponential backoff inside an attempt, attempts a fixed time apart.

Only errors whose type says that trying again can help are tried again (:attr:`PipelineError.transient`). The attempts
are made here and not by luigi's scheduler, so that they are the same with and without luigid, and so that bad data,
a refused login or a missing snapshot ends a run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from loguru import logger
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
    wait_fixed,
)

from pipeline.errors import PipelineError

T = TypeVar("T")

#: Tries of one request, and the longest wait between two of them in seconds: 0.5, 1, 2, 4 s and their jitter.
BACKOFF_TRIES, BACKOFF_LONGEST = 5, 8.0


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again can help without anybody doing anything."""
    return isinstance(error, PipelineError) and error.transient


def retry_call(call: Callable[[], T]) -> T:
    """Call until it succeeds, a few seconds at the most. Raises the last error."""
    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(BACKOFF_TRIES),
        wait=wait_exponential_jitter(multiplier=0.5, max=BACKOFF_LONGEST),
        reraise=True,
    )(call)


def retry_step(call: Callable[[], T], *, attempts: int, delay: float) -> T:
    """Call up to ``attempts`` times, ``delay`` seconds apart. Raises the last error."""

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.bind(attempt=state.attempt_number, of=attempts, wait_seconds=delay).warning(
            "Service is unavailable, waiting for the next attempt: {}", error
        )

    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(attempts),
        wait=wait_fixed(delay),
        before_sleep=say,
        reraise=True,
    )(call)
