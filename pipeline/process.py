"""What belongs to the process and not to the work: luigi's settings, the exit code."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import luigi.configuration

from pipeline import logs, signals, worker
from pipeline.settings import Settings

#: What luigi must be told whether or not it found luigi.cfg: without [retcode] a failed run exits 0, without
#: check_complete_on_run a task that produced nothing is a success. luigi.cfg says the same, for people and luigid.
LUIGI_SETTINGS: dict[str, dict[str, str]] = {
    "core": {
        "no_configure_logging": "true",
        "autoload_range": "false",
        "rpc_retry_attempts": "4",
        "rpc_retry_wait": "5",
        "rpc_log_retries": "false",
    },
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
    "scheduler": {
        "stable_done_cooldown_secs": "0",
        "worker_disconnect_delay": "30",
        "prune_on_get_work": "true",
        "retry_delay": "-1",
        "disable_persist": "3600",
        "metrics_collector": "prometheus",
    },
    "prometheus": {"task_parameters_to_use_in_labels": '["network"]'},
    "resources": {"downloads": "2", "loads": "2"},
    "worker": {"check_complete_on_run": "true", "wait_jitter": "1"},
}

#: Sections whose values are the operator's to choose: what luigi.cfg says there is left.
OPERATORS = frozenset({"resources"})

EXIT_CONFIG, EXIT_FOUND, EXIT_ALREADY_RUNNING, EXIT_MISSING, EXIT_NOT_RUN = 2, 2, 10, 20, 25
EXIT_TASK_FAILED, EXIT_UNKNOWN, EXIT_LUIGI = 30, 35, 40

EXIT_CODES = {
    0: "done, or nothing to do",
    2: "the configuration or the command line is wrong, and nothing was started; or `verify` found something",
    10: "another run is doing the same",
    20: "no snapshot at the source (yet)",
    25: "luigi's scheduler did not let the work run",
    30: "a step failed; the log's ERROR line says which, why, and what to do",
    35: "could not tell whether a step is done: source, warehouse or work directory does not answer",
    40: "luigi itself failed, or its scheduler does not answer",
    130: "interrupted (SIGINT)",
    143: "terminated (SIGTERM)",
}


def take_over(chosen: Settings) -> None:
    """Make this process ours: events through loguru, signals that end work in order, luigi's settings."""
    logs.configure(chosen.log_format, chosen.log_level)
    signals.take_over()
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


def take_over_luigi() -> NoReturn:
    """Make a process that was started as ``luigi`` ours from its start: the same process, the same arguments.

    Without -P the current directory could bring other modules than those that are installed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "pipeline.luigi_command", *sys.argv[1:]])  # noqa: S606  # no shell is meant


def run_luigi(arguments: Sequence[str]) -> int:
    """Run ``luigi`` with these arguments in this process and return its exit code. Raises signals.Interrupted."""
    from luigi.retcodes import run_with_retcodes  # noqa: PLC0415

    try:
        run_with_retcodes(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def is_luigi_command() -> bool:
    """Tell whether this process was started as ``luigi`` or ``python -m luigi``."""
    program = Path(sys.argv[0])
    return program.name == "luigi" or program.parts[-2:] == ("luigi", "__main__.py")
