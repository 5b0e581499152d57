"""The part "from bucket to tables": every way in turn, round by round, and the tables that compare them."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.bench.cost import MB, Cost, RunFailedError, Spread
from tests.bench.rig import Facts, Files, Rig, rig, s3_server
from tests.bench.ways import WAYS, Way
from tests.support.pages import table

LOADS = ("floor", "ours-load", "dlt", "insert-file", "insert-df")
WHOLES = ("ours", "s3", "insert-df")
CHECKS = (
    "Every way fills new tables of the same shape and settings (`fsync_after_insert` and `fsync_part_directory` on) on "
    "a server that was just started; files are in the page cache. Rows and content digests were compared after every "
    "run: a way that did not bring all cells as they are in the files shows no time. The pipeline's own figures "
    "include what the others leave out, which the last column says: *SHA-256* of each file against the manifest; "
    "*values* that do not fit their column, and NULL, are refused; *keys* are unique; *arrival*: counts and content "
    "digests of what is in the table; *one instant* at which readers see all four tables. Memory is of one more run, "
    "for to look at it takes time."
)


@dataclass
class Rounds:
    """What was measured of each way."""

    costs: dict[str, list[Cost]] = field(default_factory=lambda: defaultdict(list))
    watched: dict[str, Cost] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def spread(self, way: str, part: str = "") -> Spread | None:
        """Return a part's seconds, or the wall time; None when the way was not measured or brought other rows."""
        if way in self.problems or not self.costs.get(way):
            return None
        return Spread(tuple(cost.parts[part] if part else cost.seconds for cost in self.costs[way]))


def measure(files: Files, rounds: int, ways: Iterable[str]) -> Rounds:
    """Run every way once a round, in turn; before them, once to look at its memory."""
    found, expected = Rounds(), None
    with s3_server(files) as url:
        for number in range(rounds + 1):
            for name in ways:
                if name in found.problems:
                    continue
                with rig(files, url, watched=number == 0) as made:
                    expected = expected or made.facts_of_files()
                    _run(name, made, expected, found)
                told = found.problems.get(name) or (found.costs[name] or [found.watched[name]])[-1]
                sys.stderr.write(f"round {number}: {name} {told}\n")
    return found


def _run(name: str, made: Rig, expected: dict[str, Facts], found: Rounds) -> None:
    """Measure one way once; note what it brought when that is not what the files hold."""
    way: Way = WAYS[name]
    try:
        cost = way.run(made)
    except RunFailedError as error:
        found.problems[name] = str(error)
        return
    if way.tables and (arrived := made.facts(way.tables)) != expected:
        wrong = [table for table, facts in expected.items() if arrived[table] != facts]
        found.problems[name] = f"other rows or cells in {', '.join(wrong)}"
        return
    if made.watched:
        found.watched[name] = cost
    else:
        found.costs[name].append(cost)


def report(found: Rounds, files: Files) -> str:
    """Return the part of the page."""
    return "\n\n".join(
        [
            f"Four files, {files.bytes / MB:.0f} MB. Seconds are the median, with lowest and highest in brackets. "
            + CHECKS,
            "### Load: files that are on disk, into tables",
            _loads(found),
            "### Whole: from the bucket to tables",
            _wholes(found),
            "### The steps of the whole",
            _steps(found),
        ]
    )


def _loads(found: Rounds) -> str:
    floor = found.spread("floor", "load")
    rows = [_row(found, way, "load", floor) for way in LOADS if way in found.costs or way in found.problems]
    return table(
        ("load", "s", "× floor", "client CPU s", "client MB", "server CPU s", "server MB", "not checked"), rows
    )


def _wholes(found: Rounds) -> str:
    plain = plain_and_floor(found)
    rows = [_row(found, way, "", plain) for way in WHOLES if way in found.costs or way in found.problems]
    copy, floor = found.spread("copy", "download"), found.spread("floor", "load")
    if plain and copy and floor:
        rows.insert(0, ("plain copy, then the floor", plain.text(), "1.00", *[""] * 4, "everything"))
        rows.insert(0, ("– plain copy of the files from S3 to disk", copy.text(), "", *[""] * 4, ""))
    heading = ("whole", "s", "× plain + floor", "client CPU s", "client MB", "server CPU s", "server MB", "not checked")
    return table(heading, rows)


def plain_and_floor(found: Rounds) -> Spread | None:
    """Return the least that a download and a load cost, one after the other."""
    copy, floor = found.spread("copy", "download"), found.spread("floor", "load")
    if copy is None or floor is None:
        return None
    return Spread(tuple(one + other for one, other in zip(copy.values, floor.values, strict=True)))


def _row(found: Rounds, way: str, part: str, base: Spread | None) -> tuple[str, ...]:
    title, seconds = WAYS[way].title, found.spread(way, part)
    if seconds is None:
        return (title, found.problems[way].splitlines()[-1][:120], *[""] * 5, WAYS[way].unchecked)
    costs, watched = found.costs[way], found.watched[way]
    ratio = f"{seconds.median / base.median:.2f}" if base else ""
    return (
        title,
        seconds.text(),
        ratio,
        f"{Spread(tuple(cost.client_cpu for cost in costs)).median:.1f}",
        f"{watched.client_bytes / MB:.0f}",
        f"{Spread(tuple(cost.server_cpu for cost in costs)).median:.1f}",
        f"{watched.server_bytes / MB:.0f}",
        WAYS[way].unchecked,
    )


def _steps(found: Rounds) -> str:
    if not (costs := found.costs.get("ours")):
        return "Not measured."
    rows = []
    for step in costs[0].parts:
        spread = Spread(tuple(cost.parts[step] for cost in costs))
        name = "first step's beginning to last step's end" if step == "steps" else step
        rows.append((name, spread.text(2), f"{spread.median / Spread(tuple(c.seconds for c in costs)).median:.0%}"))
    return table(("step, from its first task's beginning to its last one's end", "s", "of the whole"), rows)
