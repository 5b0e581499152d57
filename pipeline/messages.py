"""Messages to people: one a run, when it failed or recovered, to any services that Apprise knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from loguru import logger

from pipeline.outcome import Outcome
from pipeline.process import EXIT_ALREADY_RUNNING, EXIT_CODES, EXIT_MISSING
from pipeline.settings import Settings
from pipeline.snapshot import Snapshot

MOST = 10  #: steps that a message tells in full

Kind = Literal["failure", "warning", "success"]


@dataclass(frozen=True)
class Message:
    """What people are told."""

    kind: Kind
    title: str
    body: str


def message_about(outcome: Outcome, *, on_success: bool, when_missing: bool) -> Message | None:
    """Return what to tell about a run, or None when there is nothing to tell.

    A run that did nothing because another was at work is silent: the other one tells.
    """
    code = outcome.exit_code
    if code == EXIT_ALREADY_RUNNING or (code == EXIT_MISSING and not when_missing and not outcome.recovered):
        return None
    if code == 0 and not outcome.recovered and not (on_success and outcome.records):
        return None
    kind: Kind = "success" if code == 0 else "warning" if code == EXIT_MISSING else "failure"
    what = {"success": "recovered" if outcome.recovered else "done", "warning": "no snapshot", "failure": "failed"}[
        kind
    ]
    about = [record.snapshot for record in outcome.troubles] if code else list(outcome.recovered)
    title = f"sot-ingest: {_named(about or outcome.asked)} {what}".replace("  ", " ")
    return Message(kind, title, "\n".join([*_lines(outcome), "", _footer(outcome)]))


def _named(snapshots: list[Snapshot] | tuple[Snapshot, ...]) -> str:
    """Return networks and dates, for example ``bitcoin, torus 2025-08-01``."""
    networks = sorted({snapshot.network for snapshot in snapshots})
    days = sorted({snapshot.processing_date.isoformat() for snapshot in snapshots})
    return " ".join(
        filter(None, (", ".join(networks), " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""))
    )


def _lines(outcome: Outcome) -> Iterator[str]:
    for record in outcome.troubles[:MOST]:
        what = "no snapshot" if record.state == "missing" else f"{record.title} failed after {record.seconds:,.1f} s"
        yield f"{_named([record.snapshot])}: {what}"
        yield f"  cause: {record.error or 'see the log'}"
        if record.hint:
            yield f"  hint: {record.hint}"
    if (more := len(outcome.troubles) - MOST) > 0:
        yield f"and {more} more"
    if outcome.exit_code and not outcome.troubles:
        yield f"cause: {outcome.cause or 'no step told one; see the log'}"
        if outcome.hint:
            yield f"  hint: {outcome.hint}"
    published = {record.snapshot: record for record in outcome.published}
    for snapshot in dict.fromkeys((*outcome.recovered, *published)):
        rows = (
            sum(count for name, count in published[snapshot].facts.items() if name.startswith("raw_"))
            if snapshot in published
            else 0
        )
        done = f"published, {rows:,} rows" if rows else "published"
        yield f"{_named([snapshot])}: {done}{' (the run before had failed)' if snapshot in outcome.recovered else ''}"


def _footer(outcome: Outcome) -> str:
    meaning = EXIT_CODES.get(outcome.exit_code, "unknown")
    return (
        f"host {outcome.host}, exit code {outcome.exit_code} ({meaning}), "
        f"{outcome.started_at:%Y-%m-%d %H:%M} UTC, {outcome.seconds:,.0f} s, run {outcome.run_id[:8]}"
    )


def send(settings: Settings, outcome: Outcome) -> None:
    """Send the message about a run, if there is one to send; a service that does not take it is a warning."""
    urls = settings.notify_urls.get_secret_value()
    message = message_about(outcome, on_success=settings.notify_on_success, when_missing=settings.notify_missing)
    if urls and message:
        deliver(urls, message)


def deliver(urls: str, message: Message) -> list[str]:
    """Send a message to each service and return the names of those that did not take it, with a warning for each.

    URLs hold tokens, and what Apprise logs holds URLs: neither is logged.
    """
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType  # noqa: PLC0415  # 0.5 s
    from apprise.utils.parse import parse_urls  # noqa: PLC0415

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = AppriseAsset(app_id="sot-ingest", app_desc="sot-ingest")
    failed = []
    for number, url in enumerate(parse_urls(urls), start=1):
        service = Apprise(asset=asset)
        known = service.add(url)
        name = f"service {number} of NOTIFY_URLS ({url.partition('://')[0]})"
        taken = known and service.notify(
            body=message.body, title=message.title, notify_type=NotifyType(message.kind), body_format=NotifyFormat.TEXT
        )
        if not taken:
            hint = "it is down, or refuses the URL's token" if known else "the URL is not of a form that Apprise knows"
            logger.bind(hint=hint).warning("Could not send the message to {}", name)
            failed.append(name)
    if not failed:
        logger.bind(kind=message.kind).info("Sent a message: {}", message.title)
    return failed
