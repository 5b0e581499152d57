"""The dead-man's switch: it learns that a command starts and how it ended, and raises the alarm when it is not.

``{PING_URL}/start`` and ``{PING_URL}/{exit code}``, as healthchecks.io and what is compatible with it take them. The
URL is the key: it is never logged. Its placeholder ``{command}`` becomes the verb of ``sot-ingest``, or ``luigi``; with
``{network}`` each network of the command is pinged by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from loguru import logger

from pipeline.settings import Settings

SECONDS, TRIES = 5.0, 3


def start(settings: Settings, networks: Iterable[str]) -> None:
    """Tell that a command starts, which is about these networks."""
    _ping_all(settings, "start", dict.fromkeys(networks, "start"))


def end(settings: Settings, exit_code: int, exit_codes: Mapping[str, int]) -> None:
    """Tell how a command ended; ``exit_codes`` are those of its networks."""
    _ping_all(settings, str(exit_code), {network: str(code) for network, code in exit_codes.items()})


def command() -> str:
    """Return the verb of ``sot-ingest`` that this process runs, or luigi."""
    return "luigi" if Path(sys.argv[0]).stem == "luigi_command" else next(iter(sys.argv[1:]), "")


def _ping_all(settings: Settings, what: str, by_network: Mapping[str, str]) -> None:
    """Ping the URL with ``what``, or the URL of each network with its own, all at once; a failure is a warning."""
    for _, path, problem in _pinged(settings, what, by_network):
        if problem:
            hint = "the monitor does not learn of this run: see PING_URL"
            logger.bind(hint=hint).warning("Could not ping /{}: {}", path, problem)


def try_all(settings: Settings, networks: Iterable[str]) -> list[tuple[str, str]]:
    """Ask the monitor to note that it was asked; return for each URL its network, or '', and what is wrong, or ''.

    ``{PING_URL}/log`` is no sign of life: the alarm is raised as if it had not been asked for.
    """
    return [(name, problem) for name, _, problem in _pinged(settings, "log", dict.fromkeys(networks, "log"))]


def _pinged(settings: Settings, what: str, by_network: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Ping; return for each URL its network, or '', what it was pinged with, and what is wrong, or ''."""
    if not (base := settings.ping_url.get_secret_value().replace("{command}", command())):
        return []
    pings = {"": what} if "{network}" not in base else by_network
    with ThreadPoolExecutor(len(pings) or 1) as pool:
        problems = pool.map(lambda name: _ping(base.replace("{network}", name), pings[name]), pings)
        return [(name, path, problem) for (name, path), problem in zip(pings.items(), problems, strict=True)]


def _ping(base: str, what: str) -> str:
    """Ask for the URL, a few times; return what is wrong, or ''."""
    import urllib3  # noqa: PLC0415

    parts = urlsplit(base)
    url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{what}"))
    retries = urllib3.Retry(TRIES - 1, backoff_factor=0.2, status_forcelist={429, 500, 502, 503, 504}, redirect=5)
    try:
        with urllib3.PoolManager(timeout=SECONDS, retries=retries) as http:
            answer = http.request("GET", url)
    except urllib3.exceptions.MaxRetryError as error:
        return type(error.reason).__name__  # its text holds the URL
    except urllib3.exceptions.HTTPError as error:
        return type(error).__name__
    return "" if answer.status < 400 else f"HTTP {answer.status}"
