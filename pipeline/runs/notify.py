"""Messages to people: one a run, when it failed or recovered, to any services that Apprise knows."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loguru import logger

from pipeline import exit_codes
from pipeline.runs.outcome import Outcome
from pipeline.settings import Settings
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME
from pipeline.warehouse.step_log import StepRecord

MOST = 10  #: causes that a message tells in full

Kind = Literal["failure", "warning", "success"]


@dataclass(frozen=True)
class Message:
    """What a message says."""

    kind: Kind
    title: str
    body: str
    run: Mapping[str, Any] | None = None  #: what a program is told of the run: the fields of the log's last event


def message_about(outcome: Outcome, *, on_success: bool, when_missing: bool) -> Message | None:
    """Return what to tell about a run, or None when there is nothing to tell.

    A run that started nothing is silent: of a wrong command line the one who typed it knows, and of a snapshot that
    another run is at work on that one tells. A missing snapshot is reported by each run that looks: with two runs
    a night these are two messages, and the second says that it is still missing.
    """
    code = outcome.exit_code
    quiet = {exit_codes.CONFIG, exit_codes.ALREADY_RUNNING, *(() if when_missing else (exit_codes.MISSING,))}
    if not outcome.recovered and (code in quiet or (code == 0 and not (on_success and outcome.records))):
        return None
    kind: Kind = "success" if code in {0, *quiet} else "warning" if code == exit_codes.MISSING else "failure"
    good = "recovered" if outcome.recovered else "done"
    bad = "held" if {record.state for record in outcome.troubles} == {"held"} else "failed"
    what = {"success": good, "warning": "found no snapshot", "failure": bad}[kind]
    about = outcome.recovered if kind == "success" else [record.snapshot for record in outcome.troubles]
    named = _named(about or outcome.asked)
    title = f"sot-ingest {what}: {named}" if named else f"sot-ingest {what}"
    return Message(kind, title, "\n".join([*_lines(outcome), "", _footer(outcome)]), outcome.as_dict())


def _named(snapshots: Sequence[Snapshot]) -> str:
    """Return networks and dates, for example ``bitcoin, torus 2025-08-01``."""
    if not snapshots:
        return ""
    networks = sorted({snapshot.network for snapshot in snapshots})
    days = sorted({snapshot.processing_date.isoformat() for snapshot in snapshots})
    return f"{', '.join(networks)} {' to '.join(dict.fromkeys((days[0], days[-1])))}"


def _lines(outcome: Outcome) -> Iterator[str]:
    groups = _by_cause(outcome.troubles)
    for records in groups[:MOST]:
        first = records[0]
        failed = f"{first.title} failed after {first.seconds:,.1f} s"
        what = {"missing": "no snapshot", "held": "loaded, and held by an audit"}.get(first.state, failed)
        if len(records) > 1:
            what += f", {len(records)} alike, here that of {_named([first.snapshot])}"
        yield f"{_named([record.snapshot for record in records])}: {what}"
        yield from _why(first.error or "see the log", first.hint)
    if (more := sum(map(len, groups[MOST:]))) > 0:
        yield f"and {more} more"
    if outcome.exit_code and not outcome.troubles:
        yield from _why(outcome.cause or "no step recorded one, see the log", outcome.hint)
    rows = {record.snapshot: _rows(record.facts) for record in outcome.published}
    for snapshot in dict.fromkeys((*outcome.recovered, *rows)):
        done = f"published, {rows[snapshot]:,} rows" if snapshot in rows else "published"
        late = "; the run before had not succeeded" if snapshot in outcome.recovered else ""
        yield f"{_named([snapshot])}: {done}{late}"


def _by_cause(records: Sequence[StepRecord]) -> list[list[StepRecord]]:
    """Return the records of equal causes together: the same step and words, but for network and date."""
    groups: dict[tuple[str, ...], list[StepRecord]] = {}
    for record in records:
        network, day = re.escape(record.snapshot.network), record.snapshot.processing_date
        said = re.sub(rf"\b({network}|{day})(\b|(?=_))", "…", f"{record.error}\n{record.hint}")
        groups.setdefault((record.state, record.title, said), []).append(record)
    return list(groups.values())


def _why(cause: str, hint: str) -> Iterator[str]:
    yield f"  cause: {cause}"
    if hint:
        yield f"  hint: {hint}"


def _rows(facts: Mapping[str, Any]) -> int:
    """Return the rows of a publication's tables."""
    return sum(count for name, count in facts.items() if name in BY_NAME)


def _footer(outcome: Outcome) -> str:
    meaning = exit_codes.MEANINGS.get(outcome.exit_code, "unknown").partition(";")[0]
    return (
        f"host {outcome.host}, exit code {outcome.exit_code} ({meaning}), "
        f"{outcome.started_at:%Y-%m-%d %H:%M} UTC, {outcome.seconds:,.0f} s, run {outcome.run_id[:8]}"
    )


def send(settings: Settings, outcome: Outcome) -> None:
    """Send the message about a run, if there is one to send; a service that does not take it is a warning."""
    urls = settings.notify_urls.get_secret_value()
    message = message_about(outcome, on_success=settings.notify_on_success, when_missing=settings.notify_missing)
    if urls and message:
        send_message(urls, message)


def send_message(urls: str, message: Message) -> list[str]:
    """Send a message to each service and return the names of those that did not take it, with a warning for each."""
    failed = []
    for name, problem in try_services(urls, message):
        if problem:
            logger.bind(hint=problem).warning("Could not send the message to {}", name)
            failed.append(name)
    if not failed:
        logger.bind(kind=message.kind).info("Sent a message: {}", message.title)
    return failed


def try_services(urls: str, message: Message) -> Iterator[tuple[str, str]]:
    """Send a message to each service; yield its name, and what is wrong when it does not take it, else ''.

    URLs hold tokens, and what Apprise logs holds URLs: neither is logged.
    """
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType  # noqa: PLC0415  # 0.5 s
    from apprise.plugins.custom_json import NotifyJSON  # noqa: PLC0415
    from apprise.utils.parse import parse_urls  # noqa: PLC0415

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = AppriseAsset(app_id="sot-ingest", app_desc="sot-ingest")
    for number, url in enumerate(parse_urls(urls), start=1):
        service = Apprise(asset=asset)
        known = service.add(url)
        for program in service:
            if isinstance(program, NotifyJSON) and message.run is not None:
                program.payload_extras["run"] = dict(message.run)
        name = f"service {number} of NOTIFY_URLS ({url.partition('://')[0]})"
        taken = known and service.notify(
            body=message.body, title=message.title, notify_type=NotifyType(message.kind), body_format=NotifyFormat.TEXT
        )
        problem = "it is down, or refuses the URL's token" if known else "the URL is not of a form that Apprise knows"
        yield name, "" if taken else problem
