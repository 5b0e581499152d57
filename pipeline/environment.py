"""The environment; the only module that reads it, and how it names a server.

Every secret can be given in a file instead, as Docker, Kubernetes and systemd hand them out: ``NAME_FILE`` names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from pipeline.errors import nearest

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|{_LABEL}(?:\.{_LABEL})*\.?)(?::([0-9]+))?(?::([0-9]+))?")
_HOST_FORMS = (
    "expected a name or an address, and maybe its ports, as in db, db:9000, db:9000:8123 or [2001:db8::1]:9000"
)
#: What libraries read that we build on.
_LIBRARIES = re.compile(r"AWS_\w+|BOTO_CONFIG|LUIGI_\w+|SSL_CERT_(FILE|DIR)|TZ|(HTTPS?|ALL|NO)_PROXY", re.IGNORECASE)
_CONTROL = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))

_OVERRIDES = ("HOST", "PORT", "HTTP_PORT", "DATABASE")  #: what a single network may do differently
_OVERRIDE = re.compile(r"([A-Z][A-Z0-9_]{0,31})_CLICKHOUSE_(" + "|".join(_OVERRIDES) + ")")
_OURS = ("SOT_", "INGESTION_")  #: no other program's variables begin so
#: Of a deployment's own scripts, and what Kubernetes sets for a service of whatever name.
_OTHERS = re.compile(r"SOT_INGEST_.*|.*_SERVICE_(HOST|PORT)(_.*)?|.*_PORT_\d+_(TCP|UDP)(_.*)?")
_LUIGIS = ("LUIGI_CONFIG_PATH", "LUIGI_CONFIG_PARSER")
_MOST_BYTES = 65_536  #: of a file that holds a secret


@dataclass(frozen=True)
class EnvironmentValues:
    """What is set; an empty variable counts as unset."""

    values: dict[str, str] = field(default_factory=dict)  #: by variable; a secret from a file under its own name
    overrides: dict[str, dict[str, str]] = field(default_factory=dict)  #: by network, what it does differently
    mistakes: list[str] = field(default_factory=list)  #: each begins with its variable


def read(names: Collection[str], secrets: Collection[str]) -> EnvironmentValues:
    """Read these variables, those of single networks, and the files of the secrets, which are some of them."""
    given = EnvironmentValues()
    files = {file_variable(name) for name in secrets}
    for name, text in os.environ.items():
        match = _OVERRIDE.fullmatch(name)
        if not text or not (name in names or name in files or match or _LIBRARIES.fullmatch(name)):
            continue
        try:
            value = os.fsencode(text).decode()  # UTF-8, whatever the locale
        except ValueError:
            given.mistakes.append(f"{name}: is not UTF-8 text")
            continue
        if value[-1] in _CONTROL:
            windows = "has its file the line ends of Windows?"
            given.mistakes.append(f"{name}: ends with {value[-1]!r}, a control character; {windows}")
            value = value.rstrip(_CONTROL)
        if value and name in names:
            given.values[name] = value
        elif value and match:
            given.overrides.setdefault(match[1].lower(), {})[match[2].lower()] = value
    for name in secrets:
        given.mistakes.extend(_read_file(name, given.values))
    return given


def file_variable(name: str) -> str:
    """Return the variable that names the file of a secret."""
    return f"{name}_FILE"


def _read_file(name: str, values: dict[str, str]) -> Iterator[str]:
    """Put a secret from its file among the values, or yield the mistake; line ends at its end are not part of it."""
    variable = file_variable(name)
    if not (path := os.environ.get(variable)):
        return
    if name in values:
        yield f"{variable}: {name} is set, too; expected one of them"
        return
    try:
        with Path(path).open("rb") as file:
            secret = file.read(_MOST_BYTES + 1).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, whose message would show the bytes
        yield f"{variable}: {path!r} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        return
    if not secret or len(secret) > _MOST_BYTES:
        yield f"{variable}: {path!r} is {'too large for a secret' if secret else 'empty'}"
        return
    values[name] = secret


def luigi_config_path() -> str | None:
    """Return the variable that luigi reads when it is imported; it only warns when nothing is there."""
    return os.environ.get("LUIGI_CONFIG_PATH")


@dataclass(frozen=True)
class Host:
    """A server, and the ports that are written behind its name: ``host``, ``host:port`` or ``host:port:http_port``."""

    name: str  #: or an address, IPv6 without brackets
    port: int | None = None
    http_port: int | None = None

    def __str__(self) -> str:
        """Return it as one would write it."""
        return ":".join([in_brackets(self.name), *(str(port) for port in (self.port, self.http_port) if port)])

    @classmethod
    def parse(cls, text: str) -> Host:
        """Return what a variable says. Raises ValueError for another form."""
        match = _HOST.fullmatch(text)
        name, *digits = match.groups() if match else (f"[{text}]", None, None)
        ports = [int(port) if port else None for port in digits]
        try:
            if name.startswith("["):
                name = str(IPv6Address(name[1:-1]))
            elif not name.strip("0123456789."):
                name = str(IPv4Address(name))
        except ValueError:
            raise ValueError(_HOST_FORMS) from None
        if not all(port is None or 1 <= port <= 65_535 for port in ports):
            raise ValueError(_HOST_FORMS)
        return cls(name, *ports)


def parse_hosts(text: str) -> tuple[Host, ...]:
    """Return what a variable says that may name several hosts, with commas between. Raises ValueError."""
    hosts = tuple(map(Host.parse, re.split(", ?", text)))
    if len(set(hosts)) < len(hosts):
        raise ValueError("a host is named twice")
    return hosts


def in_brackets(host: str) -> str:
    """Return a host as it stands before a port, in a URL too."""
    return f"[{host}]" if ":" in host else host


def log_format() -> Literal["text", "json"]:
    """Return the format of the log as far as it is known where the settings are wrong, or not read yet."""
    return "json" if os.environ.get("LOG_FORMAT") == "json" else "text"


def wants_colour() -> bool:
    """Tell whether a terminal is to show colours; https://no-color.org says how one that is not tells it."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_columns(descriptor: int) -> int:
    """Return how wide the terminal behind a standard stream is; 80 where it does not tell."""
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


def misspelt(names: Collection[str], secrets: Collection[str], networks: Collection[str]) -> dict[str, str | None]:
    """Return the variables that are set and look like one of these and are none, each with the one it is most like.

    ``names``, ``secrets`` and ``networks`` are all that have a meaning. Variables of other programs are left out: what
    begins with CLICKHOUSE_, which ClickHouse's own containers read too, counts only where it is like one of ours.
    """
    own = [f"{network.upper()}_CLICKHOUSE_{field}" for network in networks for field in _OVERRIDES]
    known = {*names, *map(file_variable, secrets), *own, *_LUIGIS}
    found = {}
    for name, value in os.environ.items():
        if value and name not in known and not _OTHERS.fullmatch(name):
            near = _nearest_variable(name.upper(), known, networks)
            if near or name.startswith((*_OURS, *(f"{network.upper()}_CLICKHOUSE_" for network in networks))):
                found[name] = near
    return found


def _written_out(short: str, words: Collection[str]) -> str | None:
    """Return the word that an abbreviation like DB is of: it has its letters, the first one first."""
    return next((word for word in words if len(short) > 1 and re.match(".*".join(map(re.escape, short)), word)), None)


def _nearest_variable(name: str, known: Collection[str], networks: Collection[str]) -> str | None:
    """Return the known variable that a name is like.

    What all share, CLICKHOUSE_ say, is not compared: it would make any two names alike.
    """
    prefix, of_network, field = name.rpartition("CLICKHOUSE_")
    if of_network and (network := nearest(prefix.rstrip("_").lower(), networks, 0.75) if prefix else None):
        if near := nearest(field, _OVERRIDES) or _written_out(field, _OVERRIDES):
            return f"{network.upper()}_CLICKHOUSE_{near}"
        prefix = ""  # for example a password of the network's own, where there is one for all
    if of_network and not prefix:
        common = [each.removeprefix("CLICKHOUSE_") for each in known if each.startswith("CLICKHOUSE_")]
        if near := nearest(field, common):
            return f"CLICKHOUSE_{near}"
        return f"{next(iter(networks)).upper()}_CLICKHOUSE_{field}" if field in _OVERRIDES else None
    for ours in _OURS:
        if name.startswith(ours):
            rests = [each.removeprefix(ours) for each in known if each.startswith(ours)]
            near = nearest(name.removeprefix(ours), rests)
            return f"{ours}{near}" if near else None
    return None if of_network else nearest(name, [each for each in known if each[0] == name[0]], 0.85)
