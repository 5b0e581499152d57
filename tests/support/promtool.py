"""promtool, which reads Prometheus' rules as Prometheus does: an installed one, or the one that scripts/test unpacks.

``python -m tests.support.promtool`` says which one there is, and fails when there is none.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "prometheus" / "promtool"


def promtool(*arguments: str) -> str:
    """Run it; return what it says. Raises AssertionError when it finds a mistake, OSError when there is none."""
    done = subprocess.run(
        [shutil.which("promtool") or CACHE, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise AssertionError(f"promtool {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(promtool("--version"))  # noqa: T201
    except OSError as error:
        sys.exit(f"no promtool: {error}; scripts/test unpacks one, or install Prometheus")
