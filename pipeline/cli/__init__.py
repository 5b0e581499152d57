"""The command ``sot-ingest``: the verbs of the people who operate the pipeline, each a module of pipeline.cli."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from loguru import logger

from pipeline import exit_codes, logs
from pipeline.errors import ConfigError, PipelineError, RequestError, SchedulerError
from pipeline.graph import interrupts

#: The verbs, in the order of --help.
VERBS = (
    *("run", "plan", "backfill", "rerun", "rollback"),
    *("status", "history", "report", "diff", "verify", "check", "gc", "unblock", "notify", "doctor"),
)

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in exit_codes.MEANINGS.items())


class _Commands(click.Group):
    """Imports a verb when it is asked for, and ends with the code of a signal.

    At a signal click would print an empty line and forget which one it was.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the verbs' names."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Return a verb's command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"pipeline.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command."""
        try:
            return super().invoke(ctx)
        except interrupts.Interrupted as interrupt:
            logger.error("Run ended: {}; a rerun goes on from here", interrupt)
            sys.exit(interrupt.exit_code)


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sot-ingest")
def sot_ingest() -> None:
    """Load verified daily snapshots into ClickHouse."""


def main() -> None:
    """Run the command; errors are one line on stderr, with the exit code that says what they are."""
    logs.protect_streams()
    try:
        sot_ingest.main(standalone_mode=False)
    except click.Abort:
        click.echo("Nothing was done.", err=True)
        sys.exit(exit_codes.CONFIG)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (ConfigError, RequestError) as error:
        click.echo(f"{error}\n{error.hint}", err=True)
        sys.exit(exit_codes.CONFIG)
    except SchedulerError as error:
        logger.bind(hint=error.hint).error("{}", error)
        sys.exit(exit_codes.LUIGI)
    except PipelineError as error:
        logger.bind(hint=error.hint).error("{}", error)
        sys.exit(exit_codes.TASK_FAILED)
    finally:
        logs.report_lost_output()
