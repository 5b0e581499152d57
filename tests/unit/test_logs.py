"""The log: short for a person at a terminal, whole as JSON."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator

import pytest
from loguru import logger

from pipeline import logs

STEP = {"network": "torus", "date": "2025-08-01", "window": 195, "step": "LoadTable", "table": "raw_address_labels"}
LOADED = {
    "rows": 10_000,
    "bytes": 712_345,
    "load_id": "01a22116-e16e-7d8d-83ef-e2d3087fcccc",
    "content_digest": "fd5cdb1804e3c5ae873b6957386ce049",
    "source": "s3://snapshots/torus",
    "published_at": "2026-11-28T07:37:57.412827+00:00",
    "seconds": 0.4123,
}
HINT = "check the bucket's policy: s3:GetObject on snapshots/* and address-labels/*, and s3:ListBucket on the bucket"


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], str]]:
    """Log a step and its failure on a terminal so wide; return what it shows."""

    def log(columns: int) -> str:
        lines: list[str] = []
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setenv("COLUMNS", str(columns))
        logs.configure("text", "INFO", sink=lines.append)
        logger.bind(**STEP, **LOADED).info("Loaded table")
        logger.bind(**STEP, hint=HINT).error("Step failed: {}", "AccessDenied (HTTP 403)")
        return "".join(lines)

    yield log
    logs.configure("json", "INFO")


SHOWN = {
    80: """
hh:mm:ss Loaded table         torus 2025-08-01 address_labels  10,000 rows,
         0.7 MB, 0.4 s
hh:mm:ss ERROR Step failed: AccessDenied (HTTP 403)  torus 2025-08-01 LoadTable
         address_labels
         → check the bucket's policy: s3:GetObject on snapshots/* and
         address-labels/*, and s3:ListBucket on the bucket
""",
    100: """
hh:mm:ss Loaded table         torus 2025-08-01 address_labels  10,000 rows, 0.7 MB, 0.4 s
hh:mm:ss ERROR Step failed: AccessDenied (HTTP 403)  torus 2025-08-01 LoadTable address_labels
         → check the bucket's policy: s3:GetObject on snapshots/* and address-labels/*, and
         s3:ListBucket on the bucket
""",
    200: """
hh:mm:ss Loaded table         torus 2025-08-01 address_labels  10,000 rows, 0.7 MB, 0.4 s
hh:mm:ss ERROR Step failed: AccessDenied (HTTP 403)  torus 2025-08-01 LoadTable address_labels
         → check the bucket's policy: s3:GetObject on snapshots/* and address-labels/*, and s3:ListBucket on the bucket
""",
}


@pytest.mark.parametrize("columns", SHOWN)
def test_a_line_for_a_person_is_short(columns: int, on_terminal: Callable[[int], str]) -> None:
    """When, what, where, figures, and below it what to do; no digest, no address, no word broken."""
    plain = re.sub(r"\x1b\[\d+m", "", on_terminal(columns))
    shown = re.sub(r"^\d\d:\d\d:\d\d", "hh:mm:ss", plain, flags=re.MULTILINE).splitlines()
    assert shown == SHOWN[columns].strip("\n").splitlines()
    assert max(map(len, shown)) <= columns


@pytest.mark.parametrize(("name", "value", "errors"), [("TERM", "xterm", 1), ("TERM", "dumb", 0), ("NO_COLOR", "1", 0)])
def test_colours_are_for_those_who_want_them(
    name: str, value: str, errors: int, on_terminal: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR is heeded, and a terminal that knows no colours."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    assert on_terminal(80).count("\x1b[31mERROR\x1b[0m") == errors


def test_every_event_says_which_run_and_version_it_is_of(capfd: pytest.CaptureFixture[str]) -> None:
    """As JSON; a bound field of that name is the event's own."""
    logs.configure("json", "INFO")
    logger.info("One")
    logger.bind(run_id="another").info("Two")
    one, two = map(json.loads, capfd.readouterr().err.splitlines())
    assert (one["run_id"], one["version"]) == (logs.run_id(), logs.VERSION)
    assert two["run_id"] == "another"


def test_a_list_is_cut_for_people_only(capfd: pytest.CaptureFixture[str]) -> None:
    """A backfill of a year names all its days as JSON."""
    days = [f"day-{number}" for number in range(12)]
    for form in ("text", "json"):
        logs.configure(form, "INFO")
        logger.bind(published=days).info("Run ended")
    text, line = capfd.readouterr().err.splitlines()
    assert text.endswith('day-9, and 2 more"')
    assert json.loads(line)["published"] == days
