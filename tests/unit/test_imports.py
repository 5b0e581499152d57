"""What luigi has to import before a step needs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("boto3", "botocore", "chdb", "clickhouse_driver", "pandas", "pyarrow", "rich")


@pytest.mark.parametrize("module", ["pipeline.tasks", "pipeline.cli.run"])
def test_nothing_heavy_is_imported(module: str) -> None:
    """``luigi --module pipeline.tasks`` and ``sot-ingest run`` wait for no driver and no file format before a step."""
    assert _asked(f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_a_caller_from_python_waits_for_nothing() -> None:
    """``from pipeline import ingest`` imports no other module of ours, and no package that is not Python's own."""
    loaded = "{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names"
    asked = f"import sys; before = {loaded}; from pipeline import ingest; print(sorted({loaded} - before))"
    assert _asked(asked) == "['pipeline']"
    assert _asked("import sys; import pipeline; print([n for n in sys.modules if n.startswith('pipeline.')])") == "[]"


def test_the_driver_makes_no_table_of_days() -> None:
    """Of all days of 400 years, which would take longer than the rest of the driver, and 20 MB of each process."""
    days = "from clickhouse_driver.columns.datecolumn import DateColumn; print(len(DateColumn.date_lut))"
    assert _asked(f"import pipeline.clickhouse; {days}") == "0"
    assert int(_asked(days)) > 100_000, "the driver has learned it: pipeline.clickhouse need not tell it any more"


def _asked(code: str) -> str:
    without = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}
    asked = subprocess.run([sys.executable, "-c", code], env=without, capture_output=True, text=True, check=True)
    return asked.stdout.strip()
