"""``sot-ingest schedule``: what runs next, of a crontab and of timers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, RequestError
from pipeline.operations.schedule import due_by_timers, schedule_of

NOW = datetime(2025, 8, 2, 2, 0, tzinfo=UTC)
TIMERS = [
    {"next": 1754103600000000, "left": 0, "last": 1754017200000000, "passed": 0}
    | {"unit": "sot-ingest-run@torus.timer", "activates": "sot-ingest-run@torus.service"},
    {"next": None, "last": None, "unit": "sot-ingest-gc.timer", "activates": "sot-ingest-gc.service"},
]


def test_a_crontab_is_asked_for_the_next_time_of_each_line() -> None:
    """The one that compose runs, the soonest first, in UTC."""
    found = schedule_of(Path(__file__).parents[3] / "docker" / "crontab", NOW)
    assert [(f"{due.at:%a %d %H:%M}", due.what) for due in found] == [
        ("Sat 02 03:00", "sot-ingest run --wait 1h"),
        ("Sat 02 04:30", "sot-ingest check --max-age 26h"),
        ("Sun 03 05:00", "sot-ingest gc --yes"),
    ]


def test_timers_tell_when_they_elapse() -> None:
    """As systemctl lists them, in microseconds; one that is not enabled does not."""
    run, gc = (due.as_dict() for due in due_by_timers(json.dumps(TIMERS)))
    assert run == {
        "next": "2025-08-02T03:00:00+00:00",
        "last": "2025-08-01T03:00:00+00:00",
        "what": "sot-ingest-run@torus.service",
        "schedule": "sot-ingest-run@torus.timer",
    }
    assert (gc["next"], gc["last"]) == (None, None)


def test_without_either_it_says_what_to_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crontab that is not there or wrong, no systemd, and one that does not answer."""
    with pytest.raises(RequestError, match="No such file"):
        schedule_of(tmp_path / "none", NOW)
    (tmp_path / "wrong").write_text("every day\n")
    with pytest.raises(ConfigError, match="line 1"):
        schedule_of(tmp_path / "wrong", NOW)
    monkeypatch.setattr("pipeline.operations.schedule.CRONTAB", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="no systemd") as raised:
        schedule_of(None, NOW)
    assert "--crontab" in raised.value.hint
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho 'Host is down' >&2; exit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    with pytest.raises(RequestError, match="does not answer: Host is down"):
        schedule_of(None, NOW)
