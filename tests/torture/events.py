"""What the log of a command says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tests.torture.commands import Ended


def events(log: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a log; the last line of a run that was killed may be cut."""
    for line in log.splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def done_step(event: dict[str, Any]) -> tuple[str, ...] | None:
    """Return which step an event says was done."""
    if event["level"] != "INFO" or not {"step", "seconds"} <= event.keys():
        return None
    return (event["network"], event["step"], event.get("table") or "")


def last_errors(ended: Ended) -> str:
    """Return the end of what a command said was wrong."""
    return " | ".join(event["message"] for event in events(ended.stderr) if event["level"] == "ERROR")[-600:]
