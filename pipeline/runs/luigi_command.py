"""What the command ``luigi`` becomes when it is asked for ``pipeline.tasks``: the same run, with our start and end.

luigi's own ends with SystemExit from deep inside; here is the place that sees every end and its exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import luigi.configuration
import luigi.interface

from pipeline import environment, logs
from pipeline.errors import PipelineError
from pipeline.graph import interrupts
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
            return process.run_luigi(arguments)  # no run, and no messages
        task, chosen = luigi_arguments.parse(arguments)
        return lifecycle.run_with_lifecycle(lambda: _run(arguments, chosen), luigi_arguments.facts(task))
    except (PipelineError, interrupts.Interrupted) as error:
        return lifecycle.log_refusal(error)


def _run(arguments: Sequence[str], chosen: luigi.interface.core) -> int:
    """Run the task; return the exit code."""
    url = chosen.scheduler_url or f"http://{chosen.scheduler_host}:{chosen.scheduler_port}"
    luigi.configuration.get_config().set("core", "default_scheduler_url", url)  # for whoever asks if luigid answers
    return process.run_scheduled(arguments, "local" if chosen.local_scheduler else "luigid")


if __name__ == "__main__":
    sys.exit(main())
