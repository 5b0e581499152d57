"""The command ``sot-ingest``: the verbs of the people who operate the pipeline, each a module of pipeline.cli."""

from __future__ import annotations

import configparser
import gc as collector
import importlib
import sys
from typing import Any

import click
from loguru import logger

from pipeline import environment, exit_codes, logs
from pipeline.errors import PipelineError, RequestError
from pipeline.graph import interrupts

#: The verbs, in the order of --help.
VERBS = (
    *("run", "plan", "backfill", "rerun", "accept", "rollback", "wait"),
    *("status", "history", "report", "diff", "verify", "audit", "check"),
    *("gc", "unblock", "schedule", "notify", "doctor", "serve"),
)

#: The verbs that are runs: however one of them ends, the log's last line says it.
RUNS = frozenset({"run", "backfill", "rerun", "accept"})

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
        collector.disable()  # among what is imported is no garbage, now or later, and to look for it takes 0.05 s
        try:
            command: click.Command = importlib.import_module(f"pipeline.cli.{cmd_name}").command
        except (configparser.Error, UnicodeDecodeError) as error:  # luigi reads its file when it is imported
            sys.exit(_end_without_luigi(f"luigi.cfg: {' '.join(str(error).split())}"))
        finally:
            collector.freeze()
            collector.enable()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command."""
        try:
            return super().invoke(ctx)
        except interrupts.Interrupted as interrupt:
            sys.exit(_end(interrupt))


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sot-ingest")
def sot_ingest() -> None:
    """Load verified daily snapshots into ClickHouse."""


def main() -> None:
    """Run the command; an error is an event of the log, with the exit code that says what it is."""
    logs.protect_streams()
    logs.configure(environment.log_format(), "INFO")
    try:
        sot_ingest.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if not (_is_run() or _is_json() or environment.log_format() == "json"):
            error.show()
            sys.exit(error.exit_code)
        sys.exit(_end(RequestError(_problem(error), hint=f"sot-ingest {_verb()}--help shows what it takes")))
    except click.Abort:
        sys.exit(_end(RequestError("Nothing was done", hint="")))
    except PipelineError as error:
        sys.exit(_end(error))
    finally:
        logs.report_lost_output()
        if "chdb" not in sys.modules:  # which ends in order when its session is found to be garbage
            collector.freeze()  # or Python would look for garbage once more among all that was imported: 0.1 s


def _verb() -> str:
    return f"{sys.argv[1]} " if sys.argv[1:] and sys.argv[1] in VERBS else ""


def _is_run() -> bool:
    return bool(RUNS & set(sys.argv[1:2]))


def _is_json() -> bool:
    """Tell whether the answer is to be JSON, also where the command line cannot be understood."""
    return "--json" in sys.argv[2:]


def _end(error: PipelineError | interrupts.Interrupted) -> int:
    """Log what ended the command, say it as JSON where that was asked for, and return the exit code."""
    from pipeline.cli import output  # noqa: PLC0415
    from pipeline.runs import lifecycle  # noqa: PLC0415  # luigi, drivers and all: not for --help

    code = lifecycle.log_refusal(error) if _is_run() else lifecycle.log_error(error)
    if _is_json():
        output.print_error(code, *lifecycle.texts_of(error))
    return code


def _end_without_luigi(problem: str) -> int:
    """Log why luigi could not be imported, which all other errors' ends need, and return the exit code."""
    from pipeline.cli import output  # noqa: PLC0415

    hint = "correct it in the file of LUIGI_CONFIG_PATH or in this directory's"
    logger.bind(hint=hint).error("{}", problem)
    if _is_json():
        output.print_error(exit_codes.CONFIG, [problem], hint)
    return exit_codes.CONFIG


def _problem(error: click.ClickException) -> str:
    """Return what is wrong with a command line, as ``luigi`` says it."""
    if isinstance(error, click.BadParameter) and error.message:
        option = error.param_hint or (error.param.opts[0] if error.param else "")
        return f"{option}: {error.message}"
    return error.format_message()
