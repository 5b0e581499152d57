"""Secrets that are recognised wherever they turn up, in a log, a file, a page, a query, however they are written.

canaries = Canaries.made()
deployment = Deployment(source, reader, directory, canaries.environment())
assert canaries.found_in(result.stderr) == []
assert canaries.found_in(deployment.work) == []
"""

from __future__ import annotations

import base64
import html
import json
import re
import secrets
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus

#: Shorter runs of letters and digits stand in other things, too.
CORE = re.compile(r"[A-Za-z0-9]{8,}")

#: What changes when a secret is quoted for a URL, a shell, SQL, JSON, HTML, or by Python.
AWKWARD = "'\"#%2F&<+ "

NOBODY = 9  #: a port that nobody listens on: what is sent there is refused


@dataclass(frozen=True)
class Canaries:
    """One secret of each kind. Give those that a test has already, such as its server's password, by their names."""

    clickhouse_password: str
    s3_secret: str
    s3_token: str
    notify_password: str
    ping_key: str

    @classmethod
    def made(cls, **given: str) -> Canaries:
        """Return secrets that nobody has had before, with characters that need quoting between two that never do."""
        names = (each.name for each in fields(cls))
        return cls(**{name: f"{secrets.token_hex(6)}{AWKWARD}{secrets.token_hex(6)}" for name in names} | given)

    def environment(self, port: int = NOBODY) -> dict[str, str]:
        """Return the variables that hold them; messages and pings go to this port of the loopback interface."""
        return {
            "CLICKHOUSE_PASSWORD": self.clickhouse_password,
            "AWS_ACCESS_KEY_ID": "canary",  # no secret: it is in every request's text
            "AWS_SECRET_ACCESS_KEY": self.s3_secret,
            "AWS_SESSION_TOKEN": self.s3_token,
            "NOTIFY_URLS": f"json://someone:{quote(self.notify_password, '')}@127.0.0.1:{port}/message",
            "PING_URL": f"http://127.0.0.1:{port}/ping/{quote(self.ping_key, '')}",
        }

    def found_in(self, where: str | bytes | Path) -> list[str]:
        """Return which of them stand in a text, in bytes, in a file, or in the names and files below a directory.

        Each with its kind, the way it is written and the file: never the secret itself, since a test prints this.
        """
        if isinstance(where, Path):
            paths = [where, *sorted(where.rglob("*"))]
            return [f"{each} in {path}" for path in paths for each in self.found_in(_text_of(path))]
        text = where.encode("utf-8", "surrogateescape") if isinstance(where, str) else where
        small = text.lower()
        found = (
            f"{kind.name} ({how})"
            for kind in fields(self)
            for how, form in _forms(getattr(self, kind.name))
            if form in (text if how == "base64" else small)
        )
        return list(dict.fromkeys(found))


def _text_of(path: Path) -> bytes:
    """Return a path's own name and what is in the file; a file that went away meanwhile has nothing in it."""
    try:
        return path.name.encode() + b"\n" + (path.read_bytes() if path.is_file() else b"")
    except FileNotFoundError:
        return b""


@cache
def _forms(secret: str) -> list[tuple[str, bytes]]:
    """Return the ways in which a secret can be written, all but base64 in lower case, as the host of a URL is.

    A run of letters and digits is the same in every quoting, and is found when only a part of the secret was written.
    """
    forms = [("plain", core.lower().encode()) for core in CORE.findall(secret)]
    if not forms:
        quoted = {secret, quote(secret, ""), quote_plus(secret), repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        quoted |= {html.escape(secret), secret.replace("\\", "\\\\").replace("'", "\\'")}
        forms = [("plain", form.lower().encode()) for form in quoted]
    forms.append(("hexadecimal", secret.encode().hex().encode()))
    for shift in range(3):  # where it starts among the three bytes that make four characters
        coded = base64.b64encode(bytes(shift) + secret.encode())
        # The first characters are of what is before it, the last ones of what is after it.
        part = coded[(0, 2, 3)[shift] :].rstrip(b"=")[:-1]
        forms += [("base64", part), ("base64", part.translate(bytes.maketrans(b"+/", b"-_")))]
    return forms
