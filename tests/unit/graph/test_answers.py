"""Answers are shared within a run until something is written, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.graph.answers import Answers


@pytest.fixture
def numbers() -> Iterator[int]:
    """Another answer each time."""
    return iter(range(10))


def test_outside_of_a_run_every_target_asks(numbers: Iterator[int]) -> None:
    """Status, plan and the rest look at what is there now."""
    answers = Answers()
    assert [answers.ask("same", lambda: next(numbers)) for _ in range(3)] == [0, 1, 2]


def test_a_run_asks_once_for_each_question(numbers: Iterator[int]) -> None:
    """Until its end."""
    answers = Answers()
    answers.keep()
    assert [answers.ask(question, lambda: next(numbers)) for question in ("a", "a", "b", "a")] == [0, 0, 1, 0]
    answers.keep_none()
    assert [answers.ask("a", lambda: next(numbers)) for _ in range(2)] == [2, 3]


def test_a_step_that_writes_decides_by_nothing_that_was_known(numbers: Iterator[int]) -> None:
    """And leaves nothing known that it may have changed."""
    answers = Answers()
    answers.keep()
    assert answers.ask("a", lambda: next(numbers)) == 0
    with answers.asked_anew():
        assert answers.ask("a", lambda: next(numbers)) == 1
    assert answers.ask("a", lambda: next(numbers)) == 2
