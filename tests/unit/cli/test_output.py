"""What a person sees in a terminal: texts that came from elsewhere neither steer it nor end a line."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from pipeline.cli import history, output
from pipeline.operations.history import Attempt
from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import StepRecord

HOSTILE = "\x1b[2J\x1b]0;title\x07\u202e\nforged"
ESCAPED = "\\x1b[2J\\x1b]0;title\\x07\\u202e\\nforged"


def test_a_table_escapes_what_cannot_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell is one line of what can be seen."""
    output.print_table(["step"], [[HOSTILE]])
    assert capsys.readouterr().out.split("\n")[1].rstrip() == ESCAPED


def test_causes_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors and hints quote upstream."""
    snapshot, moment = Snapshot("torus", date(2025, 8, 1), 195), datetime(2025, 8, 2, tzinfo=UTC)
    step = StepRecord(snapshot, "LoadTable", "raw_alerts", "failed", moment, 1.0, error=HOSTILE, hint=HOSTILE)
    history._print_causes([Attempt((step,))])  # without a warehouse
    assert capsys.readouterr().out.splitlines()[2:] == [f"  {ESCAPED}"] * 2
