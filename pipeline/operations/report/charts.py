"""What the report draws: rows by day, times of day, seconds by step; geometry and words, no markup.

A chart is one path, a unit of width a day: forty networks of half a year must stay a page of less than 1 MB.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from statistics import median

from pipeline.operations.report.data import Report
from pipeline.operations.report.networks import NetworkReport
from pipeline.operations.report.words import clock, number, stem
from pipeline.warehouse.step_log import StepRecord

HEIGHT = 60  #: of a chart, in its own units

#: The order of the graph, in which steps are listed.
_STEPS = (
    "FindSnapshot",
    "ExportTable",
    "WriteManifest",
    "DownloadManifest",
    "ValidateManifest",
    "DownloadFile",
    "ValidateFile",
    "ValidateChecksum",
    "LoadTable",
    "AuditSnapshot",
    "PublishSnapshot",
    "CleanUp",
)


def months(days: Sequence[date]) -> list[tuple[str, int]]:
    """Return the months of days in their order, each with how many of the days are in it."""
    return [
        (f"{first:%b %Y}", sum(1 for _ in same)) for first, same in groupby(days, key=lambda day: day.replace(day=1))
    ]


@dataclass(frozen=True)
class Chart:
    """Values by day, the oldest first."""

    title: str
    summary: str  #: in a few words, beside the title
    description: str  #: what it shows, for those who do not see it
    path: str  #: of an SVG, as wide as there are days and HEIGHT high; empty when there is nothing to show
    marks: tuple[int, ...] = ()  #: days, counted from 0, that are unusual


def charts_of(network: NetworkReport) -> list[Chart]:
    """Return the charts of a network: the rows of each table, and when its days were ready."""
    tables = dict.fromkeys(table for day in network.days for table in day.rows)
    return [*(_rows_chart(network, table) for table in tables), *_ready_chart(network)]


def _rows_chart(network: NetworkReport, table: str) -> Chart:
    """Draw a table's rows by day; a day without a publication is a gap."""
    counts = [day.rows.get(table) for day in network.days]
    known = [count for count in counts if count is not None]
    most = max(known) or 1
    heights = [None if count is None else max(1, round(count / most * HEIGHT)) for count in counts]
    marks = [place for place, day in enumerate(network.days) if any(drop.table == table for drop in day.drops)]
    drops = ", ".join(network.days[place].snapshot.processing_date.isoformat() for place in marks)
    summary = f"{number(known[-1])} newest, {number(max(known))} at most"
    return Chart(
        stem(table),
        summary,
        f"{stem(table)} of {network.network} on {len(known)} published days: {number(min(known))} rows at least, "
        f"{summary}. {f'Unusual drops: {drops}' if drops else 'No unusual drop'}.",
        "".join(_steps(place, run) for place, run in _known_runs(heights)),
        tuple(marks),
    )


def _known_runs(values: Sequence[int | None]) -> list[tuple[int, list[int]]]:
    """Return the values that follow one another without a gap, each run with the place of its first."""
    found: list[tuple[int, list[int]]] = []
    for place, value in enumerate(values):
        if value is None:
            continue
        if found and place == found[-1][0] + len(found[-1][1]):
            found[-1][1].append(value)
        else:
            found.append((place, [value]))
    return found


def _steps(place: int, heights: Sequence[int]) -> str:
    """Return the path of an area whose top is a stair, a step a day."""
    path, before = f"M{place} {HEIGHT}", 0
    for height, same in groupby(heights):
        path += f"v{before - height}h{sum(1 for _ in same)}"
        before = height
    return f"{path}V{HEIGHT}z"


def _ready_chart(network: NetworkReport) -> list[Chart]:
    """Draw when days were ready as a dot a day, later days of a night higher; none when no day tells."""
    times = [day.ready for day in network.days]
    known = [time for time in times if time is not None]
    if not known:
        return []
    latest = max(*known, timedelta(minutes=1))
    dots = [
        f"M{place}.5 {HEIGHT - round(time / latest * (HEIGHT - 4)) - 2}h0"
        for place, time in enumerate(times)
        if time is not None
    ]
    summary = f"{clock(known[-1])} newest, {clock(latest)} at the latest"
    about = f"{network.network} was ready on {len(known)} days at {clock(min(known))} UTC at the earliest, {summary}."
    return [Chart("ready at (UTC)", summary, about, "".join(dots))]


@dataclass(frozen=True)
class Duration:
    """How long a step takes."""

    step: str
    done: int
    failed: int
    median: float | None
    slowest: StepRecord | None
    part: float  #: the median, as a part of the largest of all steps


def durations(report: Report) -> list[Duration]:
    """Return the steps that were done or failed, in the graph's order."""
    by_step: dict[str, list[StepRecord]] = defaultdict(list)
    for record in report.records:
        if record.state in {"done", "failed"}:
            by_step[record.step].append(record)
    medians = {
        step: median(record.seconds for record in records if record.state == "done")
        for step, records in by_step.items()
        if any(record.state == "done" for record in records)
    }
    longest = max(medians.values(), default=0.0) or 1.0
    order = [*_STEPS, *sorted(by_step.keys() - set(_STEPS))]
    return [
        _duration(step, by_step[step], medians.get(step), medians.get(step, 0.0) / longest)
        for step in order
        if step in by_step
    ]


def _duration(step: str, records: Sequence[StepRecord], middle: float | None, part: float) -> Duration:
    done = [record for record in records if record.state == "done"]
    slowest = max(done, key=lambda record: record.seconds, default=None)
    return Duration(step, len(done), len(records) - len(done), middle, slowest, part)
