"""The command ``sot-ingest``: the verbs of the people who operate the pipeline."""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Any

import click
from loguru import logger

from pipeline import parameters, process
from pipeline.errors import ConfigError, PipelineError
from pipeline.settings import Settings, settings
from pipeline.snapshot import NETWORK_PATTERN, Snapshot

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in process.EXIT_CODES.items())


class DateType(click.ParamType[date]):
    """A UTC day as YYYY-MM-DD."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the date, or fail with what was found."""
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date like 2025-08-01", param, ctx)


class NetworkType(click.ParamType[str]):
    """A network's name."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail with what was found."""
        if not NETWORK_PATTERN.fullmatch(value):
            self.fail(f"{value!r} is not of the form {NETWORK_PATTERN.pattern}", param, ctx)
        return str(value)


class _Commands(click.Group):
    """Ends with the code of a signal; click would print an empty line and forget which one it was."""

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command."""
        try:
            return super().invoke(ctx)
        except process.Interrupted as interrupt:
            logger.error("Run ended: {}; a rerun goes on from here", interrupt)
            sys.exit(interrupt.exit_code)


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sot-ingest")
def cli() -> None:
    """Load verified daily snapshots into ClickHouse."""


@cli.command(epilog="\b\nExample:\n  sot-ingest run --date 2025-08-01 --network torus --local-scheduler")
@click.option("--date", "day", type=DateType(), help="UTC day to ingest.  [default: yesterday]")
@click.option(
    "--network",
    "networks",
    type=NetworkType(),
    multiple=True,
    help="Network; repeatable.  [default: all configured]",
)
@click.option("--window-days", type=click.IntRange(1, 65_535), help="Days of history.  [default: as configured]")
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Steps at once.  [default: 2; 1 with an embedded warehouse]"
)
@click.option("--local-scheduler", is_flag=True, help="Schedule in this process instead of asking luigid.")
@click.option("--again", is_flag=True, help="Forget the proofs: download, load and publish anew.")
def run(**options: Any) -> None:
    """Ingest a day: the steps that are not proven yet, and no others."""
    from pipeline.run import ingest  # noqa: PLC0415  # luigi, drivers and all: not for --help

    chosen = _take_over()
    day = options["day"] or parameters.yesterday()
    window = options["window_days"] or chosen.window_days
    networks = tuple(dict.fromkeys(options["networks"])) or chosen.networks
    chosen.check_networks(networks)
    snapshots = [Snapshot(network, day, window) for network in networks]
    sys.exit(
        ingest(
            snapshots,
            workers=options["workers"],
            local_scheduler=options["local_scheduler"],
            again=options["again"],
        )
    )


@cli.command(epilog="\b\nExample:\n  sot-ingest status --days 3")
@click.option("--days", type=click.IntRange(1, 3_660), default=7, show_default=True, help="Days back from yesterday.")
@click.option("--date", "last", type=DateType(), help="Last day to show.  [default: yesterday]")
@click.option("--window-days", type=click.IntRange(1, 65_535), help="Days of history.  [default: as configured]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(days: int, last: date | None, window_days: int | None, as_json: bool) -> None:
    """Show networks and days: what is published, what is half done and at which step, what is missing."""
    from pipeline.status import collect, print_table  # noqa: PLC0415

    chosen = _take_over()
    found = collect(days=days, last=last or parameters.yesterday(), window_days=window_days or chosen.window_days)
    if as_json:
        click.echo(json.dumps([item.as_dict() for item in found], indent=2))
    else:
        print_table(found)


def _take_over() -> Settings:
    """Read the settings and set the process up. Raises ConfigError."""
    chosen = settings()
    process.take_over(chosen)
    return chosen


def main() -> None:
    """Run the command; errors are one line on stderr, with the exit code that says what they are."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ConfigError as error:
        click.echo(f"{error}\n{error.hint}", err=True)
        sys.exit(process.EXIT_CONFIG)
    except PipelineError as error:
        logger.bind(hint=error.hint).error("{}", error)
        sys.exit(process.EXIT_TASK_FAILED)
