"""What ``sot-ingest doctor`` ends with."""

from __future__ import annotations

import pytest

from pipeline.operations.doctor import CheckResult, failed, ok, verdict, warning


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ([ok("well")], "Ready: all is well."),
        ([ok("well"), warning("old", "ask")], "Ready: runs can work, with 1 warning."),
        (
            [failed("down", "start it", 35), warning("old", "ask"), warning("full", "make room")],
            "Not ready: no answer for source; 2 warnings beside it. Bring back what does not answer, then ask again.",
        ),
        (
            [failed("down", "start it", 35), failed("wrong", "correct it")],
            "Not ready: source must be set right. Do what the hints say, then ask again.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(findings: list[CheckResult], said: str) -> None:
    """Whether runs can work, and what is in the way; what has to be changed counts more than what may come back."""
    named = [CheckResult(each.state, each.text, each.hint, each.exit_code, "source") for each in findings]
    assert verdict(named) == said
