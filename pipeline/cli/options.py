"""What the verbs' options have in common."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from datetime import date
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem
from dateutil.relativedelta import relativedelta

from pipeline import dates
from pipeline.errors import ConfigError
from pipeline.runs import process
from pipeline.settings import Settings, get_settings
from pipeline.snapshot import NETWORK_PATTERN

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]


class DateType(click.ParamType[date]):
    """A UTC day that has begun, as YYYY-MM-DD, as a word, or counted back from today."""

    name = "date"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  # click's signature
        """Return the forms, for --help."""
        return "YYYY-MM-DD|yesterday|-3d"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the date, or fail with what was found."""
        try:
            day = value if isinstance(value, date) else dates.parse_day(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if problem := dates.future_day(day):
            self.fail(problem, param, ctx)
        return day


class SpanType(click.ParamType[relativedelta]):
    """A number of days, weeks, months or years."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> relativedelta:
        """Return the length, or fail with what was found."""
        try:
            return value if isinstance(value, relativedelta) else dates.parse_span(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class NetworkType(click.ParamType[str]):
    """The name of a configured network."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail with what was found; where the settings are wrong the verb says that of them."""
        if not NETWORK_PATTERN.fullmatch(value.lower()):
            self.fail(f"{value!r} is not of the form {NETWORK_PATTERN.pattern}", param, ctx)
        with contextlib.suppress(ConfigError):
            if problem := get_settings().unknown_network(value):
                self.fail(problem, param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002  # click's signature
        """Offer the configured networks."""
        try:
            return [CompletionItem(name) for name in get_settings().networks if name.startswith(incomplete)]
        except ConfigError:
            return []


class DurationType(click.ParamType[float]):
    """A time like 90s, 30m or 2h, in seconds; as INGESTION_RETRY_DELAY is read."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, or fail with what was found."""
        try:
            return value if isinstance(value, float) else dates.parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def day(help_text: str, **more: Any) -> Decorator[Any]:
    """Return the option for one UTC day."""
    return click.option("--date", "day", type=DateType(), help=help_text, **more)


def network(help_text: str, **more: Any) -> Decorator[Any]:
    """Return the option for one network."""
    return click.option("--network", type=NetworkType(), help=help_text, **more)


networks = click.option(
    "--network", "networks", type=NetworkType(), multiple=True, help="Network; repeatable.  [default: all configured]"
)
workers = click.option(
    "--workers", type=click.IntRange(1, 64), help="Steps at once.  [default: 2; 1 with an embedded warehouse]"
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")


def window_days(function: Function) -> Function:
    """Add the option for the days of history; the function is given those that are configured when it is not used."""

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        return function(**{**given, "window_days": given["window_days"] or get_settings().window_days})

    help_text = "Days of history.  [default: as configured]"
    return click.option("--window-days", type=click.IntRange(1, 65_535), help=help_text)(cast("Function", command))


scheduler = click.option(
    "--scheduler",
    type=click.Choice(["auto", "luigid", "local"]),
    default="auto",
    show_default=True,
    help="Ask luigid if it answers (auto), luigid only (luigid), or schedule in this process (local).",
)


def load_settings() -> Settings:
    """Read the settings and set the process up. Raises ConfigError."""
    chosen = get_settings()
    process.configure_process(chosen)
    return chosen


def chosen_networks(chosen: Settings, named: tuple[str, ...]) -> tuple[str, ...]:
    """Return the networks that were named, each once, else those configured."""
    return tuple(dict.fromkeys(named)) or chosen.networks
