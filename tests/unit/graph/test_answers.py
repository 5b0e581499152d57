"""Answers are shared within a run until something is written that they are about, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from pipeline.graph.answers import Answers
from pipeline.snapshot import Snapshot

DAY = date(2025, 8, 1)


@pytest.fixture
def numbers() -> Iterator[int]:
    """Another answer each time."""
    return iter(range(10))


def test_outside_of_a_run_every_target_asks(numbers: Iterator[int]) -> None:
    """Status, plan and the rest look at what is there now."""
    answers = Answers()
    assert [answers.ask("loads", "same", lambda: next(numbers)) for _ in range(3)] == [0, 1, 2]


def test_a_run_asks_once_for_each_question(numbers: Iterator[int]) -> None:
    """Until its end."""
    answers = Answers()
    answers.keep()
    asked = ("a", "a", "b", "a")
    assert [answers.ask("loads", about, lambda: next(numbers)) for about in asked] == [0, 0, 1, 0]
    answers.keep_none()
    assert [answers.ask("loads", "a", lambda: next(numbers)) for _ in range(2)] == [2, 3]


def test_a_step_that_writes_leaves_nothing_known_that_it_may_have_changed(numbers: Iterator[int]) -> None:
    """What is about other rows stays known."""
    answers = Answers()
    answers.keep()
    assert [answers.ask(kind, "a", lambda: next(numbers)) for kind in ("loads", "audits")] == [0, 1]
    answers.forget("loads")
    assert [answers.ask(kind, "a", lambda: next(numbers)) for kind in ("loads", "audits")] == [2, 1]
    answers.forget()
    assert [answers.ask(kind, "a", lambda: next(numbers)) for kind in ("loads", "audits")] == [3, 4]


def test_what_is_known_of_other_snapshots_stays_known(numbers: Iterator[int]) -> None:
    """A claim of one snapshot says nothing of another."""
    answers, one, other = Answers(), Snapshot("torus", DAY, 195), Snapshot("bitcoin", DAY, 195)
    answers.keep()
    questions = [(one, "files"), one, other, (other, "files")]
    assert [answers.ask("loads", about, lambda: next(numbers)) for about in questions] == [0, 1, 2, 3]
    answers.forget(snapshot=one)
    assert [answers.ask("loads", about, lambda: next(numbers)) for about in questions] == [4, 5, 2, 3]
