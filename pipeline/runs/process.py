"""What belongs to the process and not to the work: luigi's settings, the exit code."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence

import luigi.configuration
from loguru import logger

from pipeline import exit_codes, logs
from pipeline.errors import ConfigError
from pipeline.graph import interrupts, luigi_settings, luigid
from pipeline.graph.luigi_settings import LUIGI_SETTINGS, OPERATORS
from pipeline.graph.luigid import Scheduler
from pipeline.runs import worker
from pipeline.settings import Settings


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
    config.set("scheduler", "metrics_collector", "none")  # luigid's: nobody asks a run, which imports 0.02 s for it


def run_luigi(arguments: Sequence[str]) -> int:
    """Run ``luigi`` with these arguments in this process and return its exit code. Raises Interrupted.

    Without luigi's own lock, which is the command line's: our worker locks the snapshots.
    """
    from luigi.retcodes import run_with_retcodes  # noqa: PLC0415

    try:
        run_with_retcodes([*arguments, "--no-lock"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0  # --help ends without one
    return 0


def run_scheduled(arguments: Sequence[str], scheduler: Scheduler) -> int:
    """Run ``luigi`` with these arguments and return its exit code. Raises Interrupted, ConfigError.

    With ``auto`` luigid is asked, and done without when it does not answer, now or in the middle of the run. The caller
    keeps other runs of this deployment from the same snapshots.
    """
    if wrong := list(luigi_settings.mistakes()):
        raise ConfigError("\n".join(wrong), hint="correct it in the file of LUIGI_CONFIG_PATH or in this directory's")
    if scheduler == "auto" and (why := luigid.problem()):
        logger.warning("Running without luigid's page: {}", why)
        scheduler = "local"
    if scheduler == "local":
        return run_luigi([*arguments, "--local-scheduler"])
    code = run_luigi(arguments)
    if scheduler == "auto" and code in {exit_codes.NOT_RUN, exit_codes.LUIGI} and (why := luigid.problem()):
        logger.warning("Going on without luigid: {}", why)
        return run_luigi([*arguments, "--local-scheduler"])
    return report_luigid(code)


def report_luigid(code: int) -> int:
    """Return the exit code of luigi's after saying what became of luigid, when luigi failed for that."""
    if code == exit_codes.LUIGI and (why := luigid.lost()):
        luigid.report(why)
    return code
