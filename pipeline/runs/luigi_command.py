"""What the command ``luigi`` becomes when it is asked for ``pipeline.tasks``: the same run, with our start and end.

luigi's own ends with SystemExit from deep inside; here is the place that sees every end and its exit code.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import luigi.configuration
import luigi.interface
from loguru import logger
from luigi import lock

from pipeline import environment, exit_codes, logs
from pipeline.errors import PipelineError
from pipeline.graph import interrupts, step_records
from pipeline.runs import lifecycle, luigi_arguments, process
from pipeline.settings import get_settings


def main() -> int:
    """Run luigi with this process's arguments and return the exit code."""
    logs.protect_streams()
    logs.configure(environment.log_format(), "INFO")
    arguments = sys.argv[1:]
    try:
        process.configure_process(get_settings())
        if {"--help", "--help-all"} & set(arguments):
            sys.argv[0] = "luigi"  # which the help shows
            return process.run_luigi(arguments)  # no run, and nobody is told of one
        task, chosen = luigi_arguments.parse(arguments)
        return lifecycle.run_with_lifecycle(lambda: _run(arguments, chosen), luigi_arguments.facts(task))
    except (PipelineError, interrupts.Interrupted) as error:
        return lifecycle.log_refusal(error)


def _run(arguments: Sequence[str], chosen: luigi.interface.core) -> int:
    """Run the task unless another process was given the same arguments; return the exit code."""
    kill_signal = signal.SIGUSR1 if chosen.take_lock else None
    if not chosen.no_lock and not lock.acquire_for(chosen.lock_pid_dir, chosen.lock_size, kill_signal):
        cause, hint = "another luigi of this deployment runs with the same arguments", "its log says how it ends"
        logger.bind(hint=hint).warning("Left the work to it: {}", cause)
        step_records.set_cause(cause, hint)
        return exit_codes.ALREADY_RUNNING
    url = chosen.scheduler_url or f"http://{chosen.scheduler_host}:{chosen.scheduler_port}"
    luigi.configuration.get_config().set("core", "default_scheduler_url", url)  # for whoever asks if luigid answers
    return process.run_scheduled([*arguments, "--no-lock"], "local" if chosen.local_scheduler else "luigid")


if __name__ == "__main__":
    sys.exit(main())
