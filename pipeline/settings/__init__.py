"""The settings, typed, from what :mod:`pipeline.environment` read; every mistake at once, with its variable's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import SecretStr, ValidationError

from pipeline import environment
from pipeline.errors import ConfigError
from pipeline.settings import consistency
from pipeline.settings.options import ServerAddress, Settings
from pipeline.snapshot import NETWORK_PATTERN

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["ServerAddress", "Settings", "get_settings", "ignored_variables", "load_settings", "secret_variables"]

_HINT = "docs/configuration.md has every variable"


def load_settings() -> Settings:
    """Read the environment. Raises ConfigError that lists every mistake, one per line, with its variable."""
    names = [field.alias for field in Settings.model_fields.values() if field.alias]
    found = environment.read(names, secret_variables())
    given: dict[str, Any] = {**found.values, "overrides": found.overrides}
    mistakes = list(found.mistakes)
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        networks = str(given.get("INGESTION_NETWORKS", ",".join(Settings.model_fields["networks"].default))).split(",")
        for mistake in error.errors():
            if mistake["loc"][0] != "overrides" or str(mistake["loc"][1]) in map(str.strip, networks):
                mistakes.append(_sentence(mistake))  # what is set for another network may be other software's
            _leave_out(given, mistake["loc"])
        settings = Settings.model_validate(given)  # what else is wrong does not depend on the wrong values
    mistakes += consistency.mistakes(settings)
    if mistakes:
        raise ConfigError("\n".join(mistakes), hint=_HINT)
    return settings


def ignored_variables(settings: Settings) -> Iterator[str]:
    """Yield a line for each variable of the environment that looks like one of these and is none, without its value."""
    names = [field.alias for field in Settings.model_fields.values() if field.alias]
    for name, near in environment.misspelt(names, secret_variables(), settings.networks).items():
        yield f"{name} is no variable of sot-ingest" + (f" (did you mean {near}?)" if near else "")


def _sentence(mistake: ErrorDetails) -> str:
    """Return the variable, what is wrong with it, and its value; not a secret, nor a URL's user and password."""
    match mistake["loc"]:
        case ("overrides", network, field):
            variable = f"{network}_CLICKHOUSE_{field}".upper()
        case (variable, *_):
            variable = str(variable)
    found = re.sub(r"(:?//|:).*@", r"\1…@", repr(mistake["input"]))
    if variable in secret_variables():
        found = "what is not shown"
    return f"{variable}: {mistake['msg'].removeprefix('Value error, ')}, found {found}"


def _leave_out(given: dict[str, Any], location: tuple[int | str, ...]) -> None:
    """Take away what a validation error is about, so that the rest can be looked at together."""
    match location:
        case ("INGESTION_NETWORKS", *_):
            names = [name.strip() for name in given.pop("INGESTION_NETWORKS").split(",")]
            if right := dict.fromkeys(filter(NETWORK_PATTERN.fullmatch, names)):
                given["INGESTION_NETWORKS"] = ",".join(right)
        case ("CLICKHOUSE_HOST" | "SOT_HOST" as variable, *_):
            given[variable] = "set"  # which source and which warehouse there are is known all the same
        case ("overrides", network, "host"):
            given["overrides"][network]["host"] = "set"
        case ("overrides", network, field):
            given["overrides"][network].pop(field)
        case (variable, *_):
            given.pop(str(variable), None)


def secret_variables() -> list[str]:
    """Return the variables that hold secrets."""
    return [field.alias for field in Settings.model_fields.values() if field.alias and _is_secret(field.annotation)]


def _is_secret(annotation: Any) -> bool:
    """Tell whether a type is, or has in it, a SecretStr."""
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read once. Raises ConfigError."""
    return load_settings()
