"""pipeline.cli.audit: the exit code for what the audits find in the days of several networks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import audit, options
from pipeline.snapshot import Snapshot


@pytest.mark.parametrize(
    ("days", "code"),
    [
        ({"torus": None}, 20),
        ({"torus": False}, 0),
        ({"torus": True}, 3),
        ({"torus": False, "bitcoin": None}, 20),
        ({"torus": True, "bitcoin": None}, 3),
    ],
)
def test_a_day_that_is_not_there_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, days: dict[str, bool | None], code: int
) -> None:
    """Unless something is wrong with another; ``days`` says of each network whether it is, None without a day."""
    for name in ("SOT_PATH", "WAREHOUSE_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("INGESTION_NETWORKS", ",".join(days))

    def ask_again(_: object, snapshot: Snapshot) -> Any:
        wrong = days[snapshot.network]
        return None if wrong is None else SimpleNamespace(is_wrong=wrong, as_dict=snapshot.as_dict)

    monkeypatch.setattr(audit, "ask_again", ask_again)
    monkeypatch.setattr(audit, "get_context", lambda: None)
    monkeypatch.setattr(audit, "require_right_audits", lambda *_: None)
    monkeypatch.setattr(options, "load_settings", lambda: SimpleNamespace(networks=tuple(days)))
    result = CliRunner().invoke(audit.command, ["--date", "2025-08-01", "--json"])
    found = [each["network"] for each in json.loads(result.stdout)]
    assert (result.exit_code, found) == (code, [name for name, wrong in days.items() if wrong is not None])
