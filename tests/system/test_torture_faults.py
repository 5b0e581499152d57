"""The quick cases of ``scripts/torture`` about services and data."""

from __future__ import annotations

import pytest

from tests.torture.blocks import quick
from tests.torture.case import Case
from tests.torture.site import Ground
from tests.torture.worker import run

CASES = quick("DEGHIK")


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
def test_the_invariants_hold(torture_ground: Ground, name: str, case: Case) -> None:
    """After harm and recovery."""
    assert run(torture_ground, name, case).violations == []
