"""D: S3 faults, from a server that misbehaves on purpose about one of the four files."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from tests.support.misbehaving import Answer, Fault, broken, refused
from tests.support.snapshots import LABELS, Bucket
from tests.torture.case import Block, Case
from tests.torture.commands import Ended
from tests.torture.hurry import Hurried
from tests.torture.oracle import COLUMNS
from tests.torture.s3_kinds import KINDS, Kind
from tests.torture.site import DAY, Ground, Site

Replaced = Callable[[Site, str], None]  #: makes that a table's object is replaced at some moment


def cases(_ground: Ground, _chance: random.Random) -> list[Case]:
    """Return each kind for each file, and what can go wrong with the list that the labels alone need."""
    found = [
        Case(f"{kind.name}: {table}", partial(_fault, kind, table), kind=kind.name)
        for kind in KINDS
        for table in COLUMNS
    ]
    for name, act in _REPLACED.items():
        found += [Case(f"{name}: {table}", partial(_replaced, act, table), kind=name) for table in COLUMNS]
    found += [Case(name, partial(_listed, fault), kind=name) for name, fault in _LISTS.items()]
    return found


def _fault(kind: Kind, table: str, site: Site) -> None:
    key = _key(site, table)
    aim = site.s3.aim(kind.method, key, *kind.faults, lasting=not kind.survives)
    ended = site.run(harm=Hurried())
    if len(aim.hits) < len(kind.faults):
        site.violated(0, f"{len(aim.hits)} requests met a fault, {len(kind.faults)} were to")
    if kind.resumes and not any(asked.range and asked.path.endswith(key) for asked in site.s3.asked):
        site.violated(0, "nothing was asked for from the middle on")
    if kind.survives:
        site.check_recovered([], ended)
    else:
        _recover(site, ended, table)


def _recover(site: Site, failed: Ended, table: str, named: str = ".parquet") -> None:
    """End the fault and run again: what was proven is not asked for again.

    The error tells the table's file; what went wrong with a list, that of the network.
    """
    site.check_refused(failed, file=table.removeprefix("raw_") + named if named == ".parquet" else named)
    site.s3.behave()
    before = len(site.s3.asked)
    again = site.run()
    for asked in site.s3.asked[before:]:
        if asked.method == "GET" and asked.path.endswith(".parquet") and not asked.path.endswith(_key(site, table)):
            site.violated(4, f"fetched again: {asked.path}")
    site.check_recovered([failed], again)


def _replaced(act: Replaced, table: str, site: Site) -> None:
    """Let the object change, put back what the manifest lists, and run again."""
    key = _key(site, table)
    act(site, key)
    failed = site.run(harm=Hurried())
    _put(site, key, (site.bucket / key).read_bytes())
    _recover(site, failed, table)


def _key(site: Site, table: str) -> str:
    """Return the key of a table's file."""
    (files,) = site.files.values()
    return files.path(table).relative_to(site.bucket).as_posix()


def _put(site: Site, key: str, data: bytes) -> None:
    site.ground.client.put_object(Bucket=site.name, Key=key, Body=data)


def _remove(site: Site, key: str) -> None:
    site.ground.client.delete_object(Bucket=site.name, Key=key)


def _before(site: Site, key: str) -> None:
    """Replace an object after the manifest was written, by one of the same size."""
    _put(site, key, bytes(reversed((site.bucket / key).read_bytes())))


def _when(site: Site, method: str, key: str, fault: Fault) -> None:
    """Replace an object as soon as it was asked for."""

    def replacing(answer: Answer) -> Answer:
        _before(site, key)
        return fault(answer)

    site.s3.aim(method, key, replacing)


_REPLACED: dict[str, Replaced] = {
    "replaced between manifest and file": _before,
    "replaced by a shorter one between manifest and file": lambda site, key: _put(site, key, b"PAR1PAR1"),
    "replaced by nothing between manifest and file": lambda site, key: _put(site, key, b""),
    "replaced after it was found": lambda site, key: _when(site, "HEAD", key, lambda answer: answer),
    "replaced between two ranges": lambda site, key: _when(site, "GET", key, broken("reset", 0.5)),
    "removed between manifest and file": _remove,
}


def _listed(fault: Fault, site: Site) -> None:
    """Ingest a date whose labels are superseded, which the list of the snapshots is to tell."""
    (network,) = site.files
    newer = Bucket(site.bucket).snapshot(network, DAY + timedelta(days=1), seed=1)
    newer.edit_manifest(lambda meta: meta.update(generated_at="2025-08-04T00:30:00Z"))
    site.upload()
    aim = site.s3.aim("GET", f"/{site.name}", fault, lasting=True, alone=True)
    failed = site.run(harm=Hurried())
    if not aim.hits:
        site.violated(0, "nothing was listed")
    _recover(site, failed, LABELS, named="torus")


def _list(keys: Callable[[int], str], token: Callable[[int], str]) -> Fault:
    """Return what lists one key a page, and promises another page."""
    page = 0

    def fault(_: Answer) -> Answer:
        nonlocal page
        page += 1
        content = f"<Contents><Key>{keys(page)}</Key></Contents>" if keys(page) else ""
        text = (
            f'<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>{content}'
            f"<NextContinuationToken>{token(page)}</NextContinuationToken></ListBucketResult>"
        ).encode()
        return Answer(200, {"content-type": "application/xml", "content-length": str(len(text))}, text)

    return fault


_EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

_LISTS: dict[str, Fault] = {
    "an empty list": lambda _: Answer(200, {"content-length": str(len(_EMPTY))}, _EMPTY),
    "a list without an end, its token the same": _list(lambda _: "snapshots/torus/a", lambda _: "again"),
    "a list without an end, its keys the same": _list(lambda _: "snapshots/torus/a", str),
    "a list without an end and without keys": _list(lambda _: "", str),
    "a list without an end": _list(lambda number: f"snapshots/torus/{number:09}", str),
    "no leave to list": refused(403, "AccessDenied"),
    "half a list": lambda _: Answer(200, {"content-length": "20"}, _EMPTY[:20]),
    "an error with 200": lambda _: Answer(200, {"content-length": "37"}, b"<Error><Code>SlowDown</Code></Error>\n"),
}


BLOCK = Block("D", "S3 faults, from a server that misbehaves on purpose", cases)
