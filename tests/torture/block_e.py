"""E: ClickHouse faults, from a proxy before both ports, and from the server itself, about one of the four tables."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial

from tests.torture.case import Block, Case
from tests.torture.clickhouse_kinds import CODES, FAILED, SURVIVED, WRONG, Fault, Made
from tests.torture.hurry import Hurried
from tests.torture.oracle import COLUMNS
from tests.torture.proxy import Proxy
from tests.torture.site import Ground, Site

#: Seconds that a client of a case waits for an answer.
_PATIENCE = 3
_HURRIED = Hurried(clickhouse_seconds=_PATIENCE)


def cases(_ground: Ground, _chance: random.Random) -> list[Case]:
    """Return each kind for each table, and what goes wrong before any table."""
    found = [
        Case(f"{name}: {table}", partial(run, made, table), kind=name)
        for name, made, run in _KINDS
        for table in COLUMNS
    ]
    return [*found, *(Case(name, partial(_from_the_start, wrong), kind=name) for name, wrong in WRONG.items())]


def _survived(made: Made, table: str, site: Site) -> None:
    """The run gets over it by itself."""
    with Proxy(site.ground.server).running() as proxy:
        fault = _made(made, table, site, proxy)
        ended = site.run(harm=_HURRIED)
        _end(fault)
        site.check_recovered([], ended)


def _failed(made: Made, table: str, site: Site, *, says: str = "") -> None:
    """The run fails, and says of which table; the next one, which meets no fault, brings everything."""
    with Proxy(site.ground.server).running() as proxy:
        fault = _made(made, table, site, proxy)
        ended = site.run(harm=_HURRIED)
        site.check_refused(ended)
        if f'"{table}"' not in ended.stderr or says not in ended.stderr:
            site.violated(5, f"no line names {table} and {says}: {ended.stderr[-1_000:]}")
        _end(fault)
        site.check_recovered([ended], site.run())


def _from_the_start(wrong: Mapping[str, str], site: Site) -> None:
    """The variables are wrong; then they are right."""
    site.variables.update(wrong)
    ended = site.run(harm=_HURRIED)
    site.check_refused(ended)
    site.variables.clear()
    if not site.ground.server.running:  # a refused login on the native port may end it: see the server
        site.ground.server.start()
    site.check_recovered([ended], site.run())


def _made(made: Made, table: str, site: Site, proxy: Proxy) -> Fault:
    site.variables.update(proxy.variables)
    fault = Fault(site, proxy, table)
    made(fault)
    return fault


def _end(fault: Fault) -> None:
    if not all(rule.hits for rule in fault.proxy.rules):
        fault.site.violated(0, "no statement met the fault")
    for mend in fault.mend:
        mend()
    fault.deliver()
    fault.proxy.rules.clear()


_KINDS: tuple[tuple[str, Made, Callable[[Made, str, Site], None]], ...] = (
    *((name, made, _survived) for name, made in SURVIVED.items()),
    *(
        (name, made, partial(_failed, says=f"ClickHouse error {CODES[name]}:" if name in CODES else ""))
        for name, made in FAILED.items()
    ),
)

BLOCK = Block("E", "ClickHouse faults, from a proxy before both ports and from the server itself", cases)
