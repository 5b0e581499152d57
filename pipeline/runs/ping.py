"""The dead-man's switch: a service is told that a run starts and how it ended, and raises the alarm when it is not.

``{PING_URL}/start`` and ``{PING_URL}/{exit code}``, as healthchecks.io and what is compatible with it take them. The
URL is the key: it is never logged.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from loguru import logger

from pipeline.runs.outcome import Outcome
from pipeline.settings import Settings

SECONDS, TRIES = 5.0, 3


def start(settings: Settings) -> None:
    """Tell that a run starts."""
    _ping(settings, "start")


def end(settings: Settings, outcome: Outcome) -> None:
    """Tell how a run ended."""
    _ping(settings, str(outcome.exit_code))


def _ping(settings: Settings, what: str) -> None:
    """Ask for the URL, a few times; a failure is a warning."""
    import urllib3  # noqa: PLC0415

    if not (base := settings.ping_url.get_secret_value()):
        return
    parts = urlsplit(base)
    url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{what}"))
    retries = urllib3.Retry(TRIES - 1, backoff_factor=0.2, status_forcelist={429, 500, 502, 503, 504}, redirect=5)
    try:
        with urllib3.PoolManager(timeout=SECONDS, retries=retries) as http:
            answer = http.request("GET", url)
        problem = "" if answer.status < 400 else f"HTTP {answer.status}"
    except urllib3.exceptions.MaxRetryError as error:
        problem = type(error.reason).__name__  # its text holds the URL
    except urllib3.exceptions.HTTPError as error:
        problem = type(error).__name__
    if problem:
        logger.bind(hint="the monitor does not learn of this run: see PING_URL").warning(
            "Could not ping /{}: {}", what, problem
        )
