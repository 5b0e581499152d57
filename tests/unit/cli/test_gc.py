"""``sot-ingest gc``: which days its policy keeps."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import time_machine
from click.testing import CliRunner

from pipeline.cli import gc
from pipeline.graph.context import Context, get_context
from pipeline.operations.gc import Garbage, Policy
from pipeline.runs import process
from pipeline.settings import get_settings


@time_machine.travel("2026-03-31T12:00Z", tick=False)
@pytest.mark.parametrize(
    ("kept", "options", "oldest"),
    [
        ("", [], None),
        ("forever", [], None),
        ("30d", [], date(2026, 3, 1)),
        ("30d", ["--keep", "1d"], date(2026, 3, 30)),
        ("forever", ["--keep", "1d"], date(2026, 3, 30)),
    ],
)
def test_days_are_kept_as_configured_unless_the_command_says_otherwise(
    kept: str, options: list[str], oldest: date | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The schedule's command names no days, so that one variable decides for crontab and timer."""
    policies = []

    def find(_context: Context, policy: Policy) -> Garbage:
        policies.append(policy)
        return Garbage([], [])

    monkeypatch.setattr("pipeline.operations.gc.find", find)
    monkeypatch.setattr(process, "configure_process", lambda _: None)
    for name in ("SOT_PATH", "WAREHOUSE_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("INGESTION_KEEP", kept)
    for cached in (get_settings, get_context):
        cached.cache_clear()
    assert CliRunner().invoke(gc.command, ["--yes", *options]).output == "Nothing to remove.\n"
    for cached in (get_settings, get_context):
        cached.cache_clear()
    assert [policy.oldest for policy in policies] == [oldest]
