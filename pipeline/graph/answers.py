"""What the warehouse answered: shared by the targets of a run for as long as the run writes nothing there."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Answers:
    """Answers by question. Outside of a run none is kept: every target asks.

    What another host writes meanwhile is seen after the next step that writes. Nothing is decided by such an answer
    but whether to begin a step: what a publication rests on, its step asks itself.
    """

    _known: dict[Hashable, Any] | None = None

    def keep(self) -> None:
        """Keep answers from now on."""
        self._known = {}

    def keep_none(self) -> None:
        """Keep no answers any more."""
        self._known = None

    def forget(self) -> None:
        """Forget what is known."""
        if self._known is not None:
            self._known.clear()

    @contextmanager
    def asked_anew(self) -> Iterator[None]:
        """Forget what is known before the block, which decides by it, and after it, which has changed it."""
        self.forget()
        try:
            yield
        finally:
            self.forget()

    def ask(self, question: Hashable, answer: Callable[[], T]) -> T:
        """Return the answer to a question, by asking unless it is known."""
        if self._known is None:
            return answer()
        if question not in self._known:
            self._known[question] = answer()
        found: T = self._known[question]
        return found
