"""The table of ``sot-ingest doctor``."""

from __future__ import annotations

from pipeline.cli import doctor
from pipeline.operations.doctor import CheckResult


def test_a_hint_of_several_lines_is_shown_in_lines() -> None:
    """Below what was found, each with its arrow; no escaped end of a line is seen."""
    finding = CheckResult(
        "failed", "two tables differ:\nraw_alerts, raw_clusters", "\nALTER …;\nALTER …;", 2, "warehouse"
    )
    assert list(doctor._rows(finding)) == [
        ["warehouse", "failed", "two tables differ:"],
        ["", "", "raw_alerts, raw_clusters"],
        ["", "", "→ ALTER …;"],
        ["", "", "→ ALTER …;"],
    ]
