"""What the rows of a load are: keys are counted by hash, and one by one where the hashes are fewer than the rows."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.tables import BY_NAME
from pipeline.warehouse.compare import measure_load
from tests.support.deployment import a_day

LOAD_ID = "01900000-0000-7000-8000-000000000000"


class Answering:
    """A warehouse that answers questions in turn."""

    def __init__(self, *answers: tuple[Any, ...]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def query(self, statement: str, **_: Any) -> list[tuple[Any, ...]]:
        """Return the next answer."""
        self.asked.append(statement)
        return [self.answers.pop(0)]


@pytest.mark.parametrize(
    ("answers", "keys"),
    [([(10, 10, "ab")], 10), ([(10, 9, "ab"), (10,)], 10), ([(10, 9, "ab"), (9,)], 9)],
    ids=["each once", "two with one hash", "one twice"],
)
def test_keys_are_counted_by_hash_and_exactly_only_in_doubt(answers: list[tuple[Any, ...]], keys: int) -> None:
    """Two keys can have one hash, but as many hashes as rows are as many keys."""
    asked = len(answers)
    warehouse: Any = Answering(*answers)
    assert measure_load(warehouse, a_day(), BY_NAME["raw_features"], LOAD_ID) == (10, keys, "ab")
    assert len(warehouse.asked) == asked
    assert all("uniqExact(address)" in statement for statement in warehouse.asked[1:])
