"""The report: one page of HTML that needs nothing else, for people who want to see how the ingestion has been."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from pipeline.dates import yesterday
from pipeline.files.atomic import replacing
from pipeline.graph.context import Context
from pipeline.operations.report import charts, rows, words
from pipeline.operations.report.data import Report, collect
from pipeline.operations.report.days import DAYS_BEFORE, DROP_BELOW, FEWEST_BEFORE, STATES
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES

DAYS = 90  #: shown by default

#: Causes of failures, drops and ranges of days that the page lists; it says how many more there are.
CAUSES, DROPS, RANGES = 20, 20, 2

_MODE = 0o644  #: a web server of another user may read it


def write_report(shared: Context, path: Path) -> None:
    """Write the page about the last :data:`DAYS` days. Raises WarehouseError, WorkDirectoryError."""
    write_page(path, render(collected(shared, days=DAYS, last=yesterday())))


def write_page(path: Path, page: str) -> None:
    """Put the page in its place, whole or not at all. Raises WorkDirectoryError."""
    with replacing(path) as file:
        file.write(page.encode())
        os.fchmod(file.fileno(), _MODE)


def collected(
    shared: Context,
    *,
    days: int,
    last: date,
    networks: Sequence[str] = (),
    window_days: int = 0,
    next_steps: bool = True,
) -> Report:
    """Return what the page is about: see :func:`pipeline.operations.report.data.collect`. Raises WarehouseError."""
    now = datetime.now(UTC)
    return collect(
        shared, days=days, last=last, now=now, networks=networks, window_days=window_days, next_steps=next_steps
    )


def render(report: Report) -> str:
    """Return the page."""
    lists = {each.network: rows.rows_of(each, len(report.networks)) for each in report.networks}
    listed = {row.only.snapshot for found in lists.values() for row in found if row.only}

    def anchor(snapshot: Snapshot) -> str:
        """Return the fragment of a day's own entry, else of its network's part."""
        own = f"{snapshot.network}-{snapshot.processing_date.isoformat()}"
        return own if snapshot in listed else f"network-{snapshot.network}"

    drops = [drop for entry in report.newest_first for drop in entry.drops]
    facts: dict[str, Any] = {
        "report": report,
        "script": _script(),
        "script_digest": base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode(),
        "states": STATES,
        "tables": TABLES,
        "dates": [entry.snapshot.processing_date for entry in report.networks[0].days[::-1]],
        "months": charts.months,
        "lists": lists,
        "listed": listed,
        "anchor": anchor,
        "charts_of": charts.charts_of,
        "chart_height": charts.HEIGHT,
        "durations": charts.durations(report),
        "rule": {"below": DROP_BELOW, "days": DAYS_BEFORE, "fewest": FEWEST_BEFORE},
        "failures": report.failures[:CAUSES],
        "more_failures": len(report.failures[CAUSES:]),
        "drops": drops[:DROPS],
        "more_drops": len(drops[DROPS:]),
        "most_ranges": RANGES,
    }
    return _environment().get_template("page.html.j2").render(facts)


@cache
def _script() -> str:
    return (resources.files(__name__) / "page.js").read_text("utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "operations/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        age=words.age,
        change=words.change,
        clock=words.clock,
        moment=words.moment,
        number=words.number,
        seconds=words.seconds,
        shift=words.shift,
        size=words.size,
        stem=words.stem,
    )
    environment.globals.update(days=words.days)
    return environment
