"""What the command ``luigi`` becomes when it is asked for ``pipeline.tasks``: the same run, with our start and end.

luigi's own ends with SystemExit from deep inside; here is the place that sees every end and its exit code.
"""

from __future__ import annotations

import sys

from loguru import logger

from pipeline import exit_codes, logs
from pipeline.errors import ConfigError
from pipeline.graph import interrupts
from pipeline.runs import lifecycle, process
from pipeline.settings import get_settings


def main() -> int:
    """Run luigi with this process's arguments and return the exit code."""
    logs.protect_streams()
    try:
        process.configure_process(get_settings())
        if {"-h", "--help", "--help-all"} & set(sys.argv):
            return process.run_luigi(sys.argv[1:])  # no run, and nobody is told of one
        networks = {"networks": ",".join(get_settings().networks)}
        return lifecycle.run_with_lifecycle(lambda: process.report_luigid(process.run_luigi(sys.argv[1:])), networks)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return exit_codes.CONFIG
    except interrupts.Interrupted as interrupt:
        logger.error("Run ended: {}; a rerun goes on from here", interrupt)
        return interrupt.exit_code


if __name__ == "__main__":
    sys.exit(main())
