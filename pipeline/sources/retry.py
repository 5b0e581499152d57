"""How long a source that does not answer is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from loguru import logger
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from pipeline.errors import SourceUnavailableError


@dataclass(frozen=True)
class RetryPolicy:
    """Tries and waits; every duration is in seconds.

    The default gives a store 15 to 20 s to come back. A longer outage is the scheduler's to wait out, which
    starts the task again minutes later.
    """

    tries: int = 5  #: in a row without a byte of progress
    first_wait: float = 1.0  #: doubles from try to try; up to this much more is added at random
    longest_wait: float = 30.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0  #: for one read from the socket, not for the whole answer

    def retrying(self) -> Retrying:
        """Try again on SourceUnavailableError only; the last one is raised again with the number of tries."""
        return Retrying(
            retry=retry_if_exception_type(SourceUnavailableError),
            stop=stop_after_attempt(self.tries),
            wait=wait_exponential(self.first_wait, max=self.longest_wait) + wait_random(0, self.first_wait),
            before_sleep=_say_so,
            retry_error_callback=_give_up,
        )


def _say_so(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    logger.bind(error=str(error), tries=state.attempt_number, wait_seconds=round(state.upcoming_sleep, 1)).debug(
        "Source did not answer; trying again"
    )


def _give_up(state: RetryCallState) -> NoReturn:
    error = state.outcome and state.outcome.exception()
    if not isinstance(error, SourceUnavailableError):  # retrying() lets nothing else come here
        raise TypeError(f"gave up on {error!r}")
    raise SourceUnavailableError(f"{error}, {state.attempt_number} tries in a row", hint=error.hint) from None
