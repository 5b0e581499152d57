"""The rows of the report's list of days: one a day, and one for many days of which the same is to be said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.operations.report.days import ReportDay
from pipeline.operations.report.networks import NetworkReport, runs

#: How many days of all networks have a row of their own, the newest; and of each network at least.
MOST_DAYS, FEWEST_DAYS = 400, 7

#: Days of which there is no more to say than that: they share a row wherever they are.
_FOLDED = frozenset({"missing", "expected", "before the first", "retired"})


@dataclass(frozen=True)
class Row:
    """Days that follow one another, the newest first."""

    days: tuple[ReportDay, ...]

    @property
    def only(self) -> ReportDay | None:
        """The day, when it is a single one."""
        return self.days[0] if len(self.days) == 1 else None

    @property
    def states(self) -> Counter[str]:
        """How many days are in which state."""
        return Counter(day.state.name for day in self.days)

    def rows(self, table: str) -> tuple[int, int] | None:
        """Return the fewest and the most rows that readers see of a table on one of the days; None without any."""
        counts = [day.rows[table] for day in self.days if table in day.rows]
        return (min(counts), max(counts)) if counts else None


def rows_of(network: NetworkReport, networks: int) -> list[Row]:
    """Return the rows of a network's days, the newest first; ``networks`` is how many are on the page.

    Days that are older than those with a row of their own share rows, in the end those of different states, too.
    """
    own = max(MOST_DAYS // networks, FEWEST_DAYS)
    newest_first = network.days[::-1]
    rows = [*_newest(newest_first[:own]), *(Row(tuple(run)) for run in runs(newest_first[own:]))]
    if len(rows) <= 2 * own:
        return rows
    rest = tuple(day for row in rows[2 * own :] for day in row.days)
    return [*rows[: 2 * own], Row(rest)]


def _newest(days: Sequence[ReportDay]) -> Iterator[Row]:
    for run in runs(days):
        if run[0].state.name in _FOLDED:
            yield Row(tuple(run))
        else:
            yield from (Row((day,)) for day in run)
