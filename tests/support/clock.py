"""Runs a command of ours at another time: ``python -m tests.support.clock 2025-08-04T01:00:00 sot-ingest run …``

The clock goes on from there, in the command and in what it forks. The services that it talks to have their own.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import time_machine


def main() -> None:
    """Set the clock, then run the command's entry point as the installed script does."""
    moment, program, *arguments = sys.argv[1:]
    sys.argv = [str(Path(sys.executable).parent / program), *arguments]
    with time_machine.travel(datetime.fromisoformat(moment).replace(tzinfo=UTC), tick=True):
        from pipeline.cli import main as run  # noqa: PLC0415  # a default that is computed at import sees the clock, too

        run()


if __name__ == "__main__":
    main()
