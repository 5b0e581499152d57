"""The part "how cost grows": with the rows of a snapshot, and with the dates that are published; a plot of each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import chart
from tests.bench.cost import MB, Cost, Spread, cost_of
from tests.bench.page import PAGE
from tests.bench.readers import NETWORK, QUERIES, Readers, ask_in_turn, readers
from tests.bench.rig import CACHE, SNAPSHOT, Files, rig, s3_server
from tests.bench.ways import backfill, ours
from tests.support.deployment import Deployment, ServerReader, in_directory, rerun_of, run_of
from tests.support.pages import table

#: Of a day, in parts of upstream's limit, and how many days. Upstream's exporter writes no more than the limit: ten
#: times as many rows are ten days, for in one file of 4.0 GB they are more than a load may take.
SIZES = ((0.1, 1), (1.0, 1), (3.0, 1), (1.0, 10))
DATES = (1, 10, 195, 1_000)
LOOKUP = next(query for query in QUERIES if query.title == "a score of an address")
SCAN = QUERIES[0]


def report(features: int, rounds: int, *, write: bool) -> str:
    """Measure, draw the plots when the page is written, and return the part of the page."""
    rows, dates = _of_rows(features, rounds), _of_dates(features, rounds)
    parts = []
    for name, title, heading, found in (
        ("growth-rows", "rows", "### With the rows of a snapshot", rows),
        ("growth-dates", "dates", "### With the dates that are published", dates),
    ):
        parts.append(heading)
        if write:
            chart.write(PAGE.with_name(f"{name}.svg"), found)
            parts.append(f"![{title}]({name}.svg)")
        parts.append(table((found.across, *(line.name for line in found.lines)), _rows(found)))
    return "\n\n".join(parts)


def _rows(found: chart.Chart) -> list[tuple[str, ...]]:
    return [
        (f"{x:,.0f}", *(f"{line.values[number]:,.{line.digits}f}" for line in found.lines))
        for number, x in enumerate(found.xs)
    ]


def _of_rows(features: int, rounds: int) -> chart.Chart:
    """Ingest snapshots of several sizes, and several days, from S3 to what readers see."""
    sizes, costs = [], []
    for factor, days in SIZES:
        of_a_day = round(features * factor)
        sizes.append(of_a_day * days)
        costs.append(_ingest(Files.of(of_a_day, days), rounds if factor * days <= 1 else 1))
    return chart.Chart(
        "rows in features",
        sizes,
        [
            chart.Line("s", [cost.seconds for cost in costs], 1),
            chart.Line("server CPU s", [cost.server_cpu for cost in costs], 1),
            chart.Line("client CPU s", [cost.client_cpu for cost in costs], 1),
            chart.Line("client MB", [cost.client_bytes / MB for cost in costs], 0),
            chart.Line("server MB", [cost.server_bytes / MB for cost in costs], 0),
        ],
    )


def _ingest(files: Files, rounds: int) -> Cost:
    """Return the round of the median time, with the memory of one before them."""

    def once(*, watched: bool) -> Cost:
        with rig(files, url, watched=watched) as made:
            return ours(made) if len(files.days) == 1 else backfill(made)

    with s3_server(files) as url:
        memory = once(watched=True)
        costs = [once(watched=False) for _ in range(rounds)]
    sys.stderr.write(f"{files.root.name}: {[cost.seconds for cost in costs]}\n")
    median = sorted(costs, key=lambda cost: cost.seconds)[len(costs) // 2]
    return replace(median, client_bytes=memory.client_bytes, server_bytes=memory.server_bytes)


def _of_dates(features: int, rounds: int) -> chart.Chart:
    """Publish more and more dates, and ask what readers and operators ask."""
    lines = {
        name: chart.Line(name, [], digits)
        for name, digits in (
            ("scan of a date, ms", 1),
            ("point look-up, ms", 1),
            ("nothing to do, s", 2),
            ("a small date again, s", 2),
        )
    }
    for dates in DATES:
        with readers(Files.of(features // 10), dates) as asked:
            for name, value in zip(lines, _of_readers(asked, dates, rounds), strict=True):
                lines[name].values.append(value)
    return chart.Chart("published dates", list(DATES), list(lines.values()))


def _of_readers(asked: Readers, dates: int, rounds: int) -> tuple[float, float, float, float]:
    """Return a scan, a look-up, a run with nothing to do, and a run that publishes a small date again."""

    # First the readers: the runs publish another, smaller snapshot for the newest date.
    scan, lookup = (ask_in_turn(asked, query, (NETWORK,))[NETWORK].median for query in (SCAN, LOOKUP))
    with TemporaryDirectory(dir=CACHE, prefix=f"dates-{dates}-") as name:
        made = Deployment(in_directory(Files.of(1_000).root), ServerReader(asked.server, "", (NETWORK,)), Path(name))

        def median(command: Sequence[str]) -> float:
            costs = [cost_of(command, environment=made.environment, directory=made.directory) for _ in range(rounds)]
            return Spread(tuple(cost.seconds for cost in costs)).median

        again = median(rerun_of(SNAPSHOT))
        return scan, lookup, median(run_of(SNAPSHOT)), again
