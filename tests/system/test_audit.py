"""scripts/audit: every lock is looked at; a vulnerability fails; a service that does not answer is told, once asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.audit import ROOT, Outcome, outcome, pins

LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
KNOWN = {"id": "PYSEC-1", "fix_versions": ["2.0"]}


def answer(locks: Sequence[Path], vulnerable: str = "") -> dict[str, Any]:
    """Return what pip-audit prints about locks."""
    named = sorted({pin for lock in locks for pin in pins(lock)})
    return {
        "dependencies": [
            {
                "name": pin.split("==")[0],
                "version": pin.split("==")[1],
                "vulns": [KNOWN] if pin.split("==")[0] == vulnerable else [],
            }
            for pin in named
        ]
    }


def test_all_four_locks_are_looked_at() -> None:
    """Production, embedded, development, benchmark, with every package that has a hash."""
    assert len(LOCKS) == 4
    for lock in LOCKS:
        assert len(pins(lock)) == sum(line[:1].isalnum() for line in lock.read_text("utf-8").splitlines())
    found = outcome(LOCKS, answer)
    assert (found.unknown, found.vulnerable, found.exit_code(strict=True)) == (0, (), 0)
    assert found.audited == len({pin for lock in LOCKS for pin in pins(lock)})


def test_a_known_vulnerability_fails() -> None:
    """It is named with the version that mends it."""
    found = outcome(LOCKS, lambda locks: answer(locks, "luigi"))
    assert found.exit_code(strict=False) == 1
    assert found.lines()[-1].startswith("audit: luigi 3.")
    assert found.lines()[-1].endswith(": PYSEC-1, mended in 2.0")


def test_a_service_that_does_not_answer_is_asked_once() -> None:
    """Then all packages count as not looked up: said in a line, and a failure when strict."""
    for silence in (None, {"dependencies": [{"name": "a", "skip_reason": "not found"}]}):
        asked: list[Sequence[Path]] = []

        def silent(locks: Sequence[Path], silence: Any = silence, asked: Any = asked) -> Any:
            asked.append(locks)
            return silence

        found = outcome(LOCKS, silent)
        assert len(asked) == 1
        assert found == Outcome(0, len({pin for lock in LOCKS for pin in pins(lock)}), ())
        assert "could NOT be looked up" in found.lines()[0]
        assert (found.exit_code(strict=False), found.exit_code(strict=True)) == (0, 1)
