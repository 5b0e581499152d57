"""What the warehouse answered: shared by the targets of a run until the run writes rows that it is about."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pipeline.snapshot import Snapshot

T = TypeVar("T")

#: Which rows an answer is about, or that it is the source's.
Kind = Literal["publications", "loads", "audits", "source"]


@dataclass
class Answers:
    """Answers by question. Outside of a run none is kept: every target asks.

    What another host writes meanwhile is seen after the next step that writes such rows, and by a publication. Nothing
    is decided by such an answer but whether to begin a step, and which loads to audit: what a publication rests on, its
    step asks itself.
    """

    _known: dict[tuple[Kind, Hashable], Any] | None = None

    def keep(self) -> None:
        """Keep answers from now on."""
        self._known = {}

    def keep_none(self) -> None:
        """Keep no answers any more."""
        self._known = None

    def forget(self, kind: Kind | None = None, snapshot: Snapshot | None = None) -> None:
        """Forget what is known, or only what is about one kind of rows, or about one snapshot."""
        if self._known is not None:
            self._known = {key: answer for key, answer in self._known.items() if not _is_about(key, kind, snapshot)}

    def ask(self, kind: Kind, about: Hashable, answer: Callable[[], T]) -> T:
        """Return the answer to a question about rows of a kind, by asking unless it is known."""
        if self._known is None:
            return answer()
        if (kind, about) not in self._known:
            self._known[kind, about] = answer()
        found: T = self._known[kind, about]
        return found


def _is_about(key: tuple[Kind, Hashable], kind: Kind | None, snapshot: Snapshot | None) -> bool:
    """Tell whether an answer is of a kind and about a snapshot, or a tuple that begins with it; None stands for any."""
    about = key[1][0] if isinstance(key[1], tuple) else key[1]
    return kind in {None, key[0]} and snapshot in {None, about}
