"""A case: harm, recovery, and what the oracle says of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.torture.site import NETWORKS, Ground, Site

ONE, TWO, THREE = NETWORKS[:1], NETWORKS[:2], NETWORKS


@dataclass(frozen=True)
class Case:
    """One case of a block. It notes what is wrong in the site's ``violations``."""

    name: str  #: in words: the fault
    run: Callable[[Site], None]
    networks: Sequence[str] = ONE
    kind: str = ""  #: cases of one kind show the same: the fast tier runs one of each
    examples: int = 1  #: how many the case stands for: a string in a place is one


@dataclass(frozen=True)
class Block:
    """Cases that have a kind of fault in common."""

    letter: str
    title: str
    cases: Callable[[Ground, random.Random], list[Case]]  #: the same for the same seed, numbered from 1


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    case: str  #: letter and number
    name: str
    violations: list[str]
    looks: int  #: how often readers looked meanwhile
    seconds: float
    examples: int = 1  #: that it stood for
