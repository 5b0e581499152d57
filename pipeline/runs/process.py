"""What belongs to the process and not to the work: luigi's settings, the exit code."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import luigi.configuration
from loguru import logger

from pipeline import exit_codes, logs
from pipeline.graph import interrupts, luigid
from pipeline.graph.luigi_settings import LUIGI_SETTINGS, OPERATORS
from pipeline.graph.luigid import Scheduler
from pipeline.runs import worker
from pipeline.settings import Settings

#: Until then luigid has the steps of a run that was killed for running. Seconds between two tries meanwhile.
_DEAD_WORKER_SECONDS, _TRY_SECONDS = (
    float(LUIGI_SETTINGS["scheduler"]["worker_disconnect_delay"]) + 10,
    5.0,
)


def configure_process(chosen: Settings) -> None:
    """Make this process ours: events through loguru, signals that end work in order, luigi's settings."""
    logs.configure(chosen.log_format, chosen.log_level)
    interrupts.install_signal_handlers()
    multiprocessing.set_start_method("fork", force=True)  # luigi's workers inherit the pipe and the signal handlers
    worker.install()
    config = luigi.configuration.get_config()
    for section, options in LUIGI_SETTINGS.items():
        for option, value in options.items():
            if section not in OPERATORS or not config.has_option(section, option):
                config.set(section, option, value)
    config.set("core", "lock_pid_dir", str(_lock_directory(chosen.work_path)))


def _lock_directory(work_path: Path) -> Path:
    """Return where luigi keeps what tells that the same command runs already: one directory a deployment.

    In luigi's own, which all of a host share, the command of another deployment is the same command, and another
    user's directory cannot be written.
    """
    key = hashlib.sha256(str(work_path.absolute()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sot-ingest-{os.getuid()}-{key}"


def run_luigi(arguments: Sequence[str]) -> int:
    """Run ``luigi`` with these arguments in this process and return its exit code. Raises signals.Interrupted."""
    from luigi.retcodes import run_with_retcodes  # noqa: PLC0415

    try:
        run_with_retcodes(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0  # --help ends without one
    return 0


def run_scheduled(arguments: Sequence[str], scheduler: Scheduler) -> int:
    """Run ``luigi`` with these arguments and return its exit code. Raises Interrupted.

    With ``auto`` luigid is asked, and done without when it does not answer, now or in the middle of the run. The caller
    keeps other runs of this deployment from the same snapshots.
    """
    if scheduler == "auto" and (why := luigid.problem()):
        logger.warning("Running without luigid's page: {}", why)
        scheduler = "local"
    if scheduler == "local":
        return run_luigi([*arguments, "--local-scheduler"])
    code = _run_with_luigid(arguments)
    if scheduler == "auto" and code in {exit_codes.NOT_RUN, exit_codes.LUIGI} and (why := luigid.problem()):
        logger.warning("Going on without luigid: {}", why)
        return run_luigi([*arguments, "--local-scheduler"])
    return report_luigid(code)


def report_luigid(code: int) -> int:
    """Return the exit code of luigi's after saying what became of luigid, when luigi failed for that."""
    if code == exit_codes.LUIGI and (why := luigid.lost()):
        luigid.report(why)
    return code


def _run_with_luigid(arguments: Sequence[str]) -> int:
    """Run until luigid has noticed that a run before this one was killed, or was restarted and forgot this one."""
    end, code = time.monotonic() + _DEAD_WORKER_SECONDS, run_luigi(arguments)
    if code == exit_codes.NOT_RUN:
        code = run_luigi(arguments)
    while code == exit_codes.ALREADY_RUNNING and time.monotonic() < end:
        time.sleep(_TRY_SECONDS)
        code = run_luigi(arguments)
    return code
