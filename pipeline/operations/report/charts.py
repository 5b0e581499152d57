"""What the report draws: calendars of weeks, rows by day, seconds by step; geometry and words, no markup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dateutil.relativedelta import MO, SU, relativedelta

from pipeline.dates import days_between
from pipeline.operations.report.data import Report, ReportDay
from pipeline.operations.report.words import number, stem
from pipeline.warehouse.step_log import StepRecord

WIDTH, HEIGHT, HEAD = 320, 72, 14  #: of a chart of rows; the head is where drops are marked

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

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


@dataclass(frozen=True)
class Calendar:
    """A network's days as weeks: a column a week, a row a weekday."""

    months: list[tuple[str, int]]  #: name and how many weeks begin in it
    weekdays: list[tuple[str, list[ReportDay | None]]]  #: name, and the day of each week or None outside the range


def calendar(entries: Sequence[ReportDay]) -> Calendar:
    """Lay a network's days out, the oldest first."""
    days = {entry.snapshot.processing_date: entry for entry in entries}
    shown = days_between(min(days) + relativedelta(weekday=MO(-1)), max(days) + relativedelta(weekday=SU))
    months: list[tuple[str, int]] = []
    for week in shown[::7]:
        name = f"{week:%b}"
        if months and months[-1][0] == name:
            months[-1] = (name, months[-1][1] + 1)
        else:
            months.append((name, 1))
    rows = [(name, [days.get(day) for day in shown[after::7]]) for after, name in enumerate(_WEEKDAYS)]
    return Calendar(months, rows)


@dataclass(frozen=True)
class Bar:
    """A day in a chart of rows."""

    x: float
    y: float
    width: float
    height: float
    title: str
    is_drop: bool


@dataclass(frozen=True)
class RowsChart:
    """How many rows a table has had."""

    table: str
    bars: list[Bar]
    most: int
    newest: int | None
    description: str  #: what it shows, for those who do not see it


def rows_chart(network: str, table: str, entries: Sequence[ReportDay]) -> RowsChart:
    """Draw a table's rows by day, the oldest first; a day without a publication is a gap."""
    published = [(place, entry, entry.rows[table]) for place, entry in enumerate(entries) if table in entry.rows]
    counts = [rows for _, _, rows in published]
    most, step = max(counts, default=0), WIDTH / max(len(entries), 1)
    bars = [_bar(place * step, step, entry, table, rows / most if most else 0.0) for place, entry, rows in published]
    return RowsChart(table, bars, most, counts[-1] if counts else None, _described(network, table, counts, bars))


def _bar(x: float, step: float, entry: ReportDay, table: str, part: float) -> Bar:
    """Return the bar of a day; one of no rows is a line."""
    height = max(1.0, part * HEIGHT)
    is_drop = any(drop.table == table for drop in entry.drops)
    title = (
        f"{entry.snapshot.processing_date}: {number(entry.rows[table])} rows{', an unusual drop' if is_drop else ''}"
    )
    return Bar(round(x, 2), round(HEAD + HEIGHT - height, 2), round(step * 0.8, 2), round(height, 2), title, is_drop)


def _described(network: str, table: str, counts: Sequence[int], bars: Sequence[Bar]) -> str:
    if not counts:
        return f"No rows of {stem(table)} were published for {network}."
    drops = [bar.title.partition(":")[0] for bar in bars if bar.is_drop]
    return (
        f"{stem(table).capitalize()} of {network} on {len(counts)} published days: between {number(min(counts))} and "
        f"{number(max(counts))} rows, {number(counts[-1])} on the newest. "
        + (f"Unusual drops: {', '.join(drops)}." if drops else "No unusual drop.")
    )


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
