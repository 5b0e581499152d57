"""A run for :func:`pipeline.ingest`, in a process of its own.

A run takes its process over: signals, log and luigi's settings are its own, steps are forked, and an embedded
ClickHouse can be opened once. None of that is for a caller's process, which may have threads, or a luigi of its own.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pipeline
from pipeline import dates, logs
from pipeline.errors import PipelineError, RequestError
from pipeline.graph.luigid import Scheduler
from pipeline.runs import lifecycle, process
from pipeline.runs.ingest import ingest_snapshots
from pipeline.runs.outcome import Outcome
from pipeline.settings import get_settings, load_settings
from pipeline.snapshot import Snapshot

#: The process: what it imports is what its parent has imported, wherever that was found.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[2]); from pipeline.runs.own_process import main; main()"


def ingest(
    network: str,
    processing_date: date,
    window_days: int | None,
    *,
    workers: int | None,
    scheduler: Scheduler,
    wait: float,
) -> Outcome:
    """Ingest a snapshot; see :func:`pipeline.ingest`."""
    chosen = load_settings()
    if problem := chosen.unknown_network(network) or dates.future_day(processing_date):
        raise RequestError(problem, hint="nothing was started")
    snapshot = Snapshot(network, processing_date, chosen.window_days if window_days is None else window_days)
    given = {**snapshot.as_dict(), "workers": workers, "scheduler": scheduler, "wait": wait}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "outcome"
        code = _run(json.dumps(given, default=str), path)
        if not path.exists():
            raise PipelineError(
                f"The process of the run of {snapshot.label} ended with {code} before it could tell what it did",
                hint="its log says more; a rerun goes on from here",
            )
        outcome: Outcome = pickle.loads(path.read_bytes())  # noqa: S301  # our own child's, in a directory of this user's
    return replace(outcome, exit_code=code)


def _run(given: str, path: Path) -> int:
    """Run the process to its end, in order when this one is interrupted meanwhile; return its exit code."""
    root = Path(pipeline.__file__).parents[1]
    command = [sys.executable, "-P", "-c", _PROGRAM, "run", str(root), given, str(path)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  # ourselves
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def main() -> None:
    """Run as ``sot-ingest run`` does, and hand the outcome over."""
    given: dict[str, Any] = json.loads(sys.argv[3])
    path = Path(sys.argv[4])
    logs.protect_streams()
    process.configure_process(get_settings())
    lifecycle.ACTIONS["hand the outcome over"] = lambda _, outcome: _write(path, outcome)
    day = date.fromisoformat(given["processing_date"])
    snapshot = Snapshot(given["network"], day, given["window_days"])
    options = {name: given[name] for name in ("workers", "scheduler", "wait")}
    code = ingest_snapshots([snapshot], **options)
    logs.report_lost_output()
    sys.exit(code)


def _write(path: Path, outcome: Outcome) -> None:
    path.write_bytes(pickle.dumps(outcome))
