"""The report: one page of HTML that needs nothing else, for people who want to see how the ingestion has been."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import jinja2

from pipeline.dates import yesterday
from pipeline.files.atomic import replacing
from pipeline.graph.context import Context
from pipeline.operations.report import charts, data, words
from pipeline.operations.report.data import STATES, Report, collect
from pipeline.tables import TABLES

DAYS = 90  #: shown by default

_MODE = 0o644  #: a web server of another user may read it


def write_report(shared: Context, path: Path) -> None:
    """Write the page about the last :data:`DAYS` days. Raises WarehouseError, WorkDirectoryError."""
    write_page(path, render(collected(shared, days=DAYS, last=yesterday())))


def write_page(path: Path, page: str) -> None:
    """Put the page in its place, whole or not at all. Raises WorkDirectoryError."""
    with replacing(path) as file:
        file.write(page.encode())
        os.fchmod(file.fileno(), _MODE)


def render(report: Report) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "operations/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        age=words.age, seconds=words.seconds, number=words.number, moment=words.moment, stem=words.stem
    )
    facts: dict[str, Any] = {
        "report": report,
        "states": STATES,
        "tables": TABLES,
        "calendars": {network: charts.calendar(entries) for network, entries in report.by_network.items()},
        "charts": {
            network: [charts.rows_chart(network, table.name, entries) for table in TABLES]
            for network, entries in report.by_network.items()
        },
        "durations": charts.durations(report),
        "size": {"width": charts.WIDTH, "bottom": charts.HEAD + charts.HEIGHT},
        "rule": {"below": data.DROP_BELOW, "days": data.DAYS_BEFORE, "fewest": data.FEWEST_BEFORE},
        "open": {entry.snapshot for entry in report.newest_first if entry.failure},
        "drops": [drop for entry in report.newest_first for drop in entry.drops],
    }
    return environment.get_template("page.html.j2").render(facts)


def collected(shared: Context, *, days: int, last: date, networks: Sequence[str] = (), window_days: int = 0) -> Report:
    """Return what the page is about, all configured networks and their window by default. Raises WarehouseError."""
    now = datetime.now(UTC)
    return collect(shared, days=days, last=last, now=now, networks=networks, window_days=window_days)
