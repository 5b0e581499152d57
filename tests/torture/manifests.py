"""G: manifests that are broken, lie, or change while they are read."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from functools import partial

from tests.support.misbehaving import Answer
from tests.support.snapshots import SnapshotFiles
from tests.torture.case import Block, Case
from tests.torture.commands import Ended
from tests.torture.defect import Defect, cases_of, legal, manifest, newer, put
from tests.torture.manifest_names import names
from tests.torture.manifest_values import values
from tests.torture.site import Ground, Site

_MOST = 1 << 20

#: How often a run reads the manifest: twice to see that all its files are there, then to keep it.
_READINGS = 3
_FOLDER = "snapshots/torus/2025-08-01/195"

Edit = Callable[[bytes], bytes]


def cases(_: Ground, chance: random.Random) -> list[Case]:
    """Return what is wrong with the bytes, with values, with names; then a manifest that changes."""
    return [*cases_of([*_bytes(chance), *values(), *names()]), *_changing()]


def _bytes(chance: random.Random) -> Iterator[Defect]:
    yield manifest("missing", lambda files: files.manifest_path.unlink(), file=_FOLDER, exit_code=20)
    edits: dict[str, Edit] = {
        "empty": lambda _: b"",
        "one byte": lambda _: b"{",
        "only spaces": lambda _: b" \n" * 100,
        "cut before its last byte": lambda data: data.rstrip()[:-1],
        "an error page": lambda _: b"<html><body>503 Slow Down</body></html>",
        "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
        "UTF-16": lambda data: data.decode().encode("utf-16"),
        "Latin-1": lambda data: data.replace(b"torus-", b"t\xf6rus-"),
        "a second document behind it": lambda data: data + data,
        "a NUL behind it": lambda data: data + b"\0",
        "a list around it": lambda data: b"[" + data + b"]",
        "null": lambda _: b"null",
        "1 MiB and a byte": lambda data: data + b" " * (_MOST + 1 - len(data)),
        "100,000 lists in lists": lambda data: _beside(data, b"[" * 100_000 + b"]" * 100_000),
        "100,000 objects in objects": lambda data: _beside(data, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        "NaN": lambda data: _beside(data, b"NaN"),
        "-Infinity": lambda data: _beside(data, b"-Infinity"),
        "1e999": lambda data: _beside(data, b"1e999"),
        "a number of 10,000 digits": lambda data: _beside(data, b"9" * 10_000),
        "a key twice": lambda data: _beside(data, b'1, "network": "torus"'),
        "a file twice": lambda data: data.replace(
            b'"sha256": {', b'"sha256": {"alerts.parquet": "' + b"0" * 64 + b'",'
        ),
    }
    share = chance.uniform(0.2, 0.8)
    edits[f"cut after {share:.0%}"] = lambda data: data[: int(len(data) * share)]
    for name, edit in edits.items():
        yield manifest(name, partial(_edited, edit))
    yield legal("exactly 1 MiB", partial(_edited, lambda data: data + b" " * (_MOST - len(data))))
    yield legal("100 lists in lists", partial(_edited, lambda data: _beside(data, b"[" * 100 + b"]" * 100)))


def _edited(edit: Edit, files: SnapshotFiles) -> None:
    files.manifest_path.write_bytes(edit(files.manifest_path.read_bytes()))


def _beside(data: bytes, value: bytes) -> bytes:
    """Return a manifest with a member that nobody knows."""
    return data.replace(b"{", b'{"more": ' + value + b",", 1)


# A manifest that changes


def _changed(begin: Callable[[Site], None], site: Site) -> None:
    """Run while it changes; a run that fails says so, and the next one brings what is in the bucket then."""
    begin(site)
    ended = site.run()
    if ended.exit_code:
        site.check_refused(ended)
    site.check_seen()
    nothing = Ended(ended.command, ended.exit_code, "", "")  # all that it did was about what is not there any longer
    site.check_recovered([nothing], site.run())


def _older_read(site: Site) -> None:
    older = site.files["torus"].manifest_path.read_bytes()
    newer(site)
    put(site)
    site.s3.plan("GET", *[lambda answer: _with_body(answer, older)] * _READINGS)


def _cut_once(site: Site) -> None:
    site.s3.plan("GET", lambda answer: _with_body(answer, answer.body[: len(answer.body) // 2]))


def _replaced_meanwhile(site: Site) -> None:
    site.s3.aim("GET", "features.parquet", lambda answer: _replaced(answer, site))


def _files_replaced(site: Site) -> None:
    site.s3.plan("GET", *[_as_it_is] * (_READINGS - 1), lambda answer: _replaced(answer, site))


def _replaced(answer: Answer, site: Site) -> Answer:
    newer(site)
    put(site)
    return answer


def _as_it_is(answer: Answer) -> Answer:
    return answer


def _with_body(answer: Answer, body: bytes) -> Answer:
    """Return an answer with another object's body, as S3 would have sent it for that."""
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    sent = Answer(answer.status, answer.headers, body)
    return sent.with_headers(content_length=str(len(body)), etag=f'"{etag}"')


_MEANWHILE = Case("replaced with all files while the files are fetched", partial(_changed, _replaced_meanwhile))


def _changing() -> list[Case]:
    return [
        Case("an older edition is read, the files are the newer one's", partial(_changed, _older_read)),
        Case("cut at the first reading, whole at the next", partial(_changed, _cut_once)),
        _MEANWHILE,
        Case("replaced with all files, files first, after it was read", partial(_changed, _files_replaced)),
    ]


BLOCK = Block(
    "G",
    "manifests that are broken, lie, or change while they are read",
    cases,
    [_MEANWHILE],  # what is wrong with one has tests of its own
)
