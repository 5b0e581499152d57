"""A case: harm, recovery, and what the oracle says of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tests.torture.commands import Ended
from tests.torture.oracle import COLUMNS
from tests.torture.site import NETWORKS, Ground, Site

ONE, TWO, THREE = NETWORKS[:1], NETWORKS[:2], NETWORKS

#: Does harm to a run, and returns the runs that it ended; what they had done, the next one is not to do again.
Harm = Callable[[Site], list[Ended]]

#: Lets a command meet faults that it gets over by itself, and returns it.
Meeting = Callable[[Sequence[str], Site], Ended]

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Case:
    """One case of a block. It notes what is wrong in the site's ``violations``."""

    name: str  #: in words: the fault
    run: Callable[[Site], None]
    networks: Sequence[str] = ONE
    examples: int = 1  #: how many the case stands for: a string in a place is one


@dataclass(frozen=True)
class Block:
    """Cases that have a kind of fault in common."""

    letter: str
    title: str
    cases: Callable[[Ground, random.Random], list[Case]]  #: the same for the same seed, numbered from 1
    quick: Sequence[Case] = ()  #: for ``scripts/test``: each kind that has no test elsewhere, many to one deployment


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    case: str  #: letter and number
    name: str
    violations: list[str]
    looks: int  #: how often readers looked meanwhile
    seconds: float
    examples: int = 1  #: that it stood for


def harmed(*harms: Harm) -> Callable[[Site], None]:
    """Return what a case runs: each harm, to a run that goes on where the one before was ended; then one without."""
    return partial(_harmed, harms)


def _harmed(harms: Sequence[Harm], site: Site) -> None:
    ended = [run for harm in harms for run in harm(site)]
    site.check_recovered(ended, site.run())


def survived(*meetings: Meeting) -> Callable[[Site], None]:
    """Return what a case runs: the ingest in the first meeting, and a command that loads all again in each other."""
    return partial(_survived, meetings)


def _survived(meetings: Sequence[Meeting], site: Site) -> None:
    command = site.ingest()
    for meeting in meetings:
        ended = meeting(command, site)
        site.check_brought(ended)
        command = site.again()
    site.check_recovered([], ended)


def dealt(kinds: Sequence[Kind]) -> list[list[tuple[Kind, str]]]:
    """Return kinds in lots, each kind of a lot for another table: the first is in each, all are in all but the last."""
    lots = range(0, len(kinds), len(COLUMNS))
    return [list(zip(kinds[lot:], COLUMNS, strict=False)) for lot in lots]
