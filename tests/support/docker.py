"""What docker/ says, read without any program of Docker's or systemd's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[2] / "docker"
UNITS = DOCKER / "systemd"
COMMON = UNITS / "sot-ingest-.service.d" / "common.conf"

#: ${NAME}, ${NAME-default}, ${NAME:-default}, ${NAME:?error}
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")


def env_file(text: str) -> dict[str, str]:
    """Return the variables of an env file in the form that compose, systemd and shells read alike."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    return {name: re.sub(r"^'([^']*)'$", r"\1", value) for name, value in found.items()}


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of an env file."""
    return env_file(path.read_text("utf-8"))


def env_example() -> dict[str, str]:
    """Return what .env.example sets."""
    return read_env_file(DOCKER / ".env.example")


def named_in_env_example() -> set[str]:
    """Return the variables that .env.example sets or shows."""
    return set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (DOCKER / ".env.example").read_text("utf-8"), re.MULTILINE))


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Return a part of the compose file with its variables replaced."""
    match value:
        case str():
            return _VARIABLE.sub(lambda found: _value(found, variables), value)
        case list():
            return [interpolated(item, variables) for item in value]
        case dict():
            return {name: interpolated(item, variables) for name, item in value.items()}
        case _:
            return value


def _value(found: re.Match[str], variables: dict[str, str]) -> str:
    name, operator, word = found[1], found[2] or "", found[3] or ""
    value = variables.get(name, "")
    is_missing = not value if operator.startswith(":") else name not in variables
    if is_missing and operator.endswith("?"):
        raise KeyError(word)
    return word if is_missing else value


def compose(variables: dict[str, str] | None = None, name: str = "compose.yaml") -> dict[str, Any]:
    """Return a compose file as .env.example, or these variables, make it."""
    text = (DOCKER / name).read_text("utf-8")
    found = yaml.load(text, _Loader)  # noqa: S506  # a safe one
    read: dict[str, Any] = interpolated(found, env_example() if variables is None else variables)
    return read


class _Loader(yaml.SafeLoader):
    """Reads compose's tag for what takes the place of another file's."""


_Loader.add_constructor("!override", _Loader.construct_yaml_map)  # type: ignore[type-var]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in lines]


def image(name: str) -> str:
    """Return the last instruction of a name: what holds for a container of the image."""
    return [rest for found, rest in instructions() if found == name][-1]


def image_environment() -> dict[str, str]:
    """Return what the image sets, without PATH."""
    pairs = dict(pair.split("=", 1) for pair in image("ENV").split())
    return {name: value for name, value in pairs.items() if name != "PATH"}


@dataclass(frozen=True)
class Unit:
    """A unit of systemd: section, name and value of each line; a name can stand there several times."""

    lines: list[tuple[str, str, str]]

    def all(self, section: str, name: str) -> list[str]:
        """Return the values of a name."""
        return [value for found, key, value in self.lines if (found, key) == (section, name)]

    def one(self, section: str, name: str) -> str:
        """Return the value of a name that stands there once."""
        (value,) = self.all(section, name)
        return value


def unit(name: str) -> Unit:
    """Read a unit, a service with what all services have in common, and with drop-ins of its own."""
    paths = [UNITS / name, *([COMMON] if name.endswith(".service") else []), *(UNITS / f"{name}.d").glob("*.conf")]
    lines = []
    for path in paths:
        section = ""
        for line in path.read_text("utf-8").splitlines():
            if match := re.fullmatch(r"\[(\w+)\]", line):
                section = match[1]
            elif line and not line.startswith("#"):
                key, value = line.split("=", 1)
                lines.append((section, key, value))
    return Unit(lines)


def unit_names(suffix: str) -> list[str]:
    """Return the names of the units of a kind."""
    return sorted(path.name for path in UNITS.glob(f"*.{suffix}"))
