"""The program ``luigi``: whether this process is it, and its replacement by ours."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn


def is_luigi_command() -> bool:
    """Tell whether this process was started as ``luigi`` or ``python -m luigi``, for a task of ours.

    Another module may import ours for its own graph: that run is not ours.
    """
    program = Path(sys.argv[0])
    is_luigi = program.name == "luigi" or program.parts[-2:] == ("luigi", "__main__.py")
    return is_luigi and any(word.removeprefix("--module=") == "pipeline.tasks" for word in sys.argv[1:])


def reexec_luigi() -> NoReturn:
    """Make a process that was started as ``luigi`` ours from its start: the same process, the same arguments.

    Without -P the current directory could bring other modules than those that are installed.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed when the process began
        with contextlib.suppress(OSError):
            stream.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "pipeline.runs.luigi_command", *sys.argv[1:]])  # noqa: S606  # no shell is meant
