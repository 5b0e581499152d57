"""E: ClickHouse faults, from a proxy before both ports, and from the server itself, about one of the four tables."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial

from tests.torture.case import Block, Case, dealt, harmed, survived
from tests.torture.clickhouse_kinds import CODES, FAILED, OF_ALL, SURVIVED, UNANSWERED, WRONG, Fault, Made
from tests.torture.commands import Ended
from tests.torture.hurry import Hurried
from tests.torture.oracle import COLUMNS
from tests.torture.proxy import Proxy
from tests.torture.site import Ground, Site

#: How long a client of a case waits for an answer; for INSERTs none of which is ever answered, as short as can be.
_HURRIED = Hurried(clickhouse_seconds=3, insert_seconds=3)
_HASTY = Hurried(clickhouse_seconds=3, insert_seconds=1)


def cases(_ground: Ground, _chance: random.Random) -> list[Case]:
    """Return each kind for each table, and what goes wrong before any table."""
    return [
        *(
            Case(f"{name}: {table}", survived(partial(_met, [(made, table)])))
            for name, made in SURVIVED.items()
            for table in COLUMNS
        ),
        *(Case(f"{name}: {table}", harmed(partial(_ended, [(name, table)]))) for name in FAILED for table in COLUMNS),
        *(Case(name, harmed(partial(_wrong, variables))) for name, variables in WRONG.items()),
    ]


def _quick() -> list[Case]:
    """Return all kinds that a run gets over by itself, then all that end a run."""
    meetings = [partial(_met, lot) for lot in dealt(list(SURVIVED.values()))]
    wrong = [partial(_wrong, variables) for variables in WRONG.values()]
    lots = dealt([name for name in FAILED if name not in OF_ALL])
    lots += [lot for name in FAILED if name in OF_ALL for lot in dealt([name])]
    return [
        Case("each fault that a run gets over, of up to four tables at once", survived(*meetings)),
        Case(
            "each fault that ends a run, of up to four tables at once", harmed(*(partial(_ended, lot) for lot in lots))
        ),
        Case("each variable that is wrong, one after the other", harmed(*wrong)),
    ]


def _met(faults: Sequence[tuple[Made, str]], command: Sequence[str], site: Site, hurried: Hurried = _HURRIED) -> Ended:
    """Run a command with faults about tables; return it when they are over."""
    with Proxy(site.ground.server).running() as proxy:
        site.variables.update(proxy.variables)
        made = [Fault(site, proxy, table) for _, table in faults]
        for fault, (make, _) in zip(made, faults, strict=True):
            make(fault)
        ended = site.run(command, harm=hurried)
        if not all(rule.hits for rule in proxy.rules):
            site.violated(0, "a fault that no statement met")
        for fault in made:
            fault.end()
    site.variables.clear()
    return ended


def _ended(faults: Sequence[tuple[str, str]], site: Site) -> list[Ended]:
    """The run fails, and says of which tables, and what the server says of its own."""
    hurried = _HASTY if any(name in UNANSWERED for name, _ in faults) else _HURRIED
    ended = _met([(FAILED[name], table) for name, table in faults], site.ingest(), site, hurried)
    site.check_refused(ended)
    for name, table in faults:
        says = f"ClickHouse error {CODES[name]}:" if name in CODES else ""
        if not any(f'"{table}"' in line and says in line for line in ended.stderr.splitlines()):
            site.violated(5, f"no line names {table} and {says}: {ended.stderr[-1_000:]}")
    return [ended]


def _wrong(variables: Mapping[str, str], site: Site) -> list[Ended]:
    """The variables are wrong; then they are right."""
    site.variables.update(variables)
    ended = site.run(harm=_HURRIED)
    site.check_refused(ended)
    site.variables.clear()
    site.ground.server.stop()  # a refused login on the native port may end it, sooner or later: see the server
    site.ground.server.start()
    return [ended]


BLOCK = Block("E", "ClickHouse faults, from a proxy before both ports and from the server itself", cases, _quick())
