"""The part "what dates and versions add": the same queries while more and more is stored."""

from __future__ import annotations

from tests.bench.readers import NETWORK, QUERIES, TIMES, Query, ask_in_turn, readers
from tests.bench.rig import Files
from tests.support.pages import table

DATES, VERSIONS = (195, 400, 1_000), (1, 2, 3)
CHOSEN = tuple(
    next(query for query in QUERIES if query.title == title)
    for title in ("mean score and sum of volumes", "a score of an address", "an address on every date")
)


def report(features: int) -> str:
    """Measure, and return the part of the page."""
    times: dict[tuple[Query, int, int], tuple[float, float]] = {}
    parts: dict[tuple[int, int], int] = {}
    for versions in VERSIONS:
        with readers(Files.of(features), DATES[0], versions) as asked:
            for before, dates in zip((DATES[0], *DATES), DATES, strict=False):
                asked.publish(before, dates)
                count = "SELECT count() FROM system.parts WHERE active AND table = 'raw_features_loads'"
                parts[dates, versions] = int(asked.ask(count))
                for query in CHOSEN:
                    found = ask_in_turn(asked, query, (NETWORK, "bare"))
                    times[query, dates, versions] = (found[NETWORK].median, found["bare"].median)
    rows = [
        (
            query.title,
            f"{dates:,}",
            *(_cell(times[query, dates, versions], parts[dates, versions]) for versions in VERSIONS),
        )
        for query in CHOSEN
        for dates in DATES
    ]
    heading = ("query", "dates", *(f"versions: {versions}" for versions in VERSIONS))
    text = (
        f"Milliseconds through the view, the median of {TIMES}; how many more than on a bare table of the published "
        f"rows; and the parts that the table of loads has. {features:,} features rows on the newest date, the others "
        "are small."
    )
    return f"{text}\n\n{table(heading, rows)}"


def _cell(taken: tuple[float, float], parts: int) -> str:
    view, bare = taken
    return f"{view:.1f} ({view - bare:+.1f}), {parts:,} parts"
