"""What the verbs take for a day and for a span."""

from __future__ import annotations

from datetime import date

import click
import pytest
import time_machine
from click.testing import CliRunner
from dateutil.relativedelta import relativedelta

from pipeline import dates
from pipeline.cli import gc, options
from pipeline.settings import load_settings


@click.command()
@options.day("A day.")
@click.option("--span", type=options.SpanType())
def command(day: date | None, span: relativedelta | None) -> None:
    """Print what was given."""
    click.echo(f"{day} {span}")


@time_machine.travel("2026-03-31T12:00Z", tick=False)
@pytest.mark.parametrize(
    ("day", "expected"), [("2025-08-01", "2025-08-01"), ("-3d", "2026-03-28"), ("yesterday", "2026-03-30")]
)
def test_a_day_can_be_counted_back(day: str, expected: str) -> None:
    """A value that begins with a dash is taken for the option's, however it is given."""
    for arguments in (["--date", day], [f"--date={day}"]):
        assert CliRunner().invoke(command, arguments).output == f"{expected} None\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("300", 300), ("90s", 90), ("5m", 300), ("1.5h", 5_400), ("2d", 172_800)]
)
def test_a_duration_is_read_in_one_way(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --wait and by the settings."""
    monkeypatch.setenv("INGESTION_RETRY_DELAY", text)
    monkeypatch.setenv("SOT_PATH", "/")
    monkeypatch.setenv("WAREHOUSE_PATH", "/")
    assert options.DurationType().convert(text, None, None) == seconds
    assert load_settings().retry_delay == seconds


@pytest.mark.parametrize("text", ["", "-1", "5 minutes", "5w", "nan", "inf", "1e3", "٣s", "1h30m"])
def test_another_duration_is_refused(text: str) -> None:
    """With what was found and what is expected."""
    with pytest.raises(ValueError, match="is not a time like 90s, 30m or 2h"):
        dates.parse_duration(text)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--date", "last week"], "'last week' is not a day like 2025-08-01, yesterday or -3d"),
        (["--span", "3m"], "'3m' is not a span like 30d, 13months or 1y"),
    ],
)
def test_what_is_neither_is_refused(arguments: list[str], found: str) -> None:
    """Exit 2, with what was found and what is expected."""
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, found in result.output) == (2, True)


def test_help_shows_the_forms() -> None:
    """Of days, beside the option."""
    assert "--date YYYY-MM-DD|yesterday|-3d" in CliRunner().invoke(command, ["--help"]).output


@pytest.mark.parametrize("option", ["--keep", "--keep-days"])
@pytest.mark.parametrize("span", ["400", "30d", "13months"])
def test_retention_is_one_option_with_two_names(option: str, span: str) -> None:
    """A number alone is days, as --keep-days has it."""
    parsed = gc.command.make_context("gc", [option, span]).params
    assert parsed["keep"] == options.SpanType().convert(span, None, None)
