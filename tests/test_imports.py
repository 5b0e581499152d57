"""What luigi has to import before a step needs it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("boto3", "chdb", "clickhouse_driver", "pandas", "pyarrow")


def test_the_graph_imports_nothing_heavy() -> None:
    """``luigi --module pipeline.tasks`` waits for no driver and no file format: 0.2 to 0.6 s each."""
    code = f"import sys, pipeline.tasks; print([name for name in {HEAVY!r} if name in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"
