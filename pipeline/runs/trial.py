"""Tries the ways in which people and monitors learn of runs, for ``sot-ingest doctor --notify``."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.operations.doctor import CheckResult, Examination, failed, ok, warning
from pipeline.runs import notify, ping
from pipeline.warehouse.ledger import HOST

_UNSET = "nobody is told of a run that failed: see docs/monitoring.md"


def check_messages(examination: Examination) -> Iterator[CheckResult]:
    """Whether each service of NOTIFY_URLS takes a message, which says that it is a trial."""
    urls = examination.settings.notify_urls.get_secret_value()
    if not urls:
        yield warning("NOTIFY_URLS is not set", _UNSET)
        return
    message = notify.Message("success", "sot-ingest doctor: a trial", f"Nothing happened. host {HOST}")
    for name, problem in notify.try_services(urls, message):
        yield failed(f"{name} did not take a message", problem) if problem else ok(f"{name} took a message")


def check_pings(examination: Examination) -> Iterator[CheckResult]:
    """Whether the monitor of PING_URL answers; it is asked to note this, which is no sign of life of a run."""
    chosen = examination.settings
    if not chosen.ping_url.get_secret_value():
        yield warning("PING_URL is not set", "no alarm is raised when runs stay away: see docs/monitoring.md")
        return
    for name, problem in ping.try_all(chosen, chosen.networks):
        where = f"the monitor of PING_URL{f' for {name}' if name else ''}"
        text = f"{where} did not answer: {problem}" if problem else f"{where} answers"
        yield failed(text, "check the URL, its key and the way there") if problem else ok(text)
