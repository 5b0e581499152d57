"""Which audits there are, and how each is configured for a network: the packaged ones and the operator's own.

``audits.toml`` beside the operator's files changes levels and thresholds of both:

    [empty_table]
    level = "warn"

    [network.torus.row_counts]
    ratio = 5
"""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.audits import EXPECTED_NUMBER, HINT, LEVELS, Audit, Level, is_threshold, parse_audit
from pipeline.errors import ConfigError, did_you_mean

CHANGES = "audits.toml"
_MOST_BYTES = 1_000_000  #: of a file


@dataclass(frozen=True)
class ChosenAudit:
    """An audit as it is configured for a network."""

    audit: Audit
    level: Level
    parameters: Mapping[str, float]

    @property
    def name(self) -> str:
        """The audit's name."""
        return self.audit.name

    @property
    def changed(self) -> dict[str, float]:
        """The parameters that ``audits.toml`` changed."""
        return {name: value for name, value in self.parameters.items() if value != self.audit.parameters[name]}

    @property
    def place(self) -> str:
        """Where it stands, for people: its file, and what ``audits.toml`` makes of that."""
        values = ", ".join(f"{name} = {value:.15g}" for name, value in self.changed.items())
        return f"{self.audit.place} with {values} of {CHANGES}" if values else self.audit.place


@dataclass(frozen=True)
class Catalogue:
    """All audits, what an operator changed, and what is wrong with their files."""

    audits: Mapping[str, Audit] = field(default_factory=dict)  #: by name
    changes: Mapping[str, Any] = field(default_factory=dict)  #: of all networks, by audit
    of_networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  #: by network, then by audit
    own: frozenset[str] = frozenset()  #: the names of the operator's own
    mistakes: tuple[str, ...] = ()  #: each begins with the file that it is in

    def chosen(self, network: str) -> list[ChosenAudit]:
        """Return the audits of a network, in the order of their names, without those that are switched off.

        Raises ConfigError that lists every mistake, one a line.
        """
        if self.mistakes:
            raise ConfigError("\n".join(self.mistakes), hint=HINT)
        found = []
        for name, audit in sorted(self.audits.items()):
            changed = {**self.changes.get(name, {}), **self.of_networks.get(network, {}).get(name, {})}
            level = changed.pop("level", audit.level)
            if level != "off":
                values = {parameter: float(value) for parameter, value in changed.items()}
                found.append(ChosenAudit(audit, level, {**audit.parameters, **values}))
        return found

    def chosen_by_operator(self, network: str) -> list[ChosenAudit]:
        """Return the operator's own audits of a network, and the packaged ones whose parameters were changed.

        Where something is wrong, their own that can be read.
        """
        if self.mistakes:
            return [ChosenAudit(self.audits[name], "hold", self.audits[name].parameters) for name in sorted(self.own)]
        return [each for each in self.chosen(network) if each.name in self.own or each.changed]


def load_catalogue(directory: Path | None, networks: Sequence[str]) -> Catalogue:
    """Read all files."""
    mistakes: list[str] = []
    packaged, own, unread = _packaged(), dict[str, Audit](), set[str]()
    changes: dict[str, Any] = {}
    if directory is not None:
        for path in _files(directory, mistakes):
            try:
                own[path.stem] = parse_audit(path.stem, str(path), _read(path))
                if path.stem in packaged:
                    mistakes.append(f"{path}: there is a packaged audit {path.stem}: change that in {CHANGES}")
            except ConfigError as error:
                mistakes += error.lines
                unread.add(path.stem)
        changes = _changes(directory / CHANGES, mistakes)
    audits = {**packaged, **own}
    known = {**audits, **dict.fromkeys(unread)}
    of_networks = changes.pop("network", {})
    mistakes += _mistakes_of(f"{directory}/{CHANGES}", known, changes, of_networks, networks)
    return Catalogue(audits, changes, of_networks, frozenset(own), tuple(mistakes))


def _packaged() -> dict[str, Audit]:
    folder = resources.files("pipeline") / "audits"
    files = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    names = [name.removesuffix(".sql") for name in files]
    return {name: parse_audit(name, name, (folder / f"{name}.sql").read_text("utf-8")) for name in names}


def _files(directory: Path, mistakes: list[str]) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix.lower() == ".sql")
    except OSError as error:
        mistakes.append(f"INGESTION_AUDITS_PATH: {directory} cannot be read: {error.strerror}")
        return []


def _read(path: Path) -> str:
    """Return a file's text. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ConfigError(f"{path}: has more than {_MOST_BYTES:,} bytes", hint=HINT)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint=HINT) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text", hint=HINT) from error


def _changes(path: Path, mistakes: list[str]) -> dict[str, Any]:
    try:
        path.lstat()
        return tomllib.loads(_read(path))
    except (FileNotFoundError, NotADirectoryError):
        pass  # there is none; of a link to nowhere it is _read that fails
    except OSError as error:
        mistakes.append(f"{path}: cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        mistakes.append(f"{path}: is not TOML: {error}")
    except ConfigError as error:
        mistakes.append(str(error))
    return {}


def _mistakes_of(
    place: str,
    known: Mapping[str, Audit | None],
    changes: Mapping[str, Any],
    of_networks: Any,
    networks: Sequence[str],
) -> Iterator[str]:
    """Yield what is wrong with what was changed; ``known`` has None for an audit whose file could not be read."""
    for name, changed in changes.items():
        if name in networks and name not in known:
            section = next(iter(changed), "AUDIT") if isinstance(changed, dict) else "AUDIT"
            yield f"{place}: [{name}]: {name} is a network: write [network.{name}.{section}]"
        else:
            yield from _mistakes_in(f"{place}: [{name}]", name, changed, known)
    if not isinstance(of_networks, dict):
        yield f"{place}: network: expected [network.NAME.AUDIT]"
        return
    for network, each in of_networks.items():
        where = f"{place}: [network.{network}"
        if network not in networks:
            yield f"{where}]: {network} is not in INGESTION_NETWORKS {did_you_mean(network, networks)}"
        elif not isinstance(each, dict):
            yield f"{where}]: expected [network.{network}.AUDIT]"
        else:
            for name, changed in each.items():
                yield from _mistakes_in(f"{where}.{name}]", name, changed, known)


def _mistakes_in(place: str, name: str, changed: Any, known: Mapping[str, Audit | None]) -> Iterator[str]:
    """Yield what is wrong with what was changed of one audit."""
    audit = known.get(name)
    if name not in known:
        yield f"{place}: there is no audit {name} {did_you_mean(name, known)}"
    elif not isinstance(changed, dict):
        yield f"{place}: expected a table with level or parameters, found {changed!r}"
    elif audit is not None:
        yield from _wrong_values(place, changed, audit)


def _wrong_values(place: str, changed: Mapping[str, Any], audit: Audit) -> Iterator[str]:
    for key, value in changed.items():
        if key == "level":
            if value not in LEVELS:
                yield f"{place}: level: expected {', '.join(LEVELS)}, found {value!r}"
        elif key not in audit.parameters:
            yield f"{place}: {audit.name} has no parameter {key} {did_you_mean(key, ['level', *audit.parameters])}"
        elif isinstance(value, bool) or not isinstance(value, int | float) or not is_threshold(value):
            yield f"{place}: {key}: {EXPECTED_NUMBER}, found {reprlib.repr(value)}"
