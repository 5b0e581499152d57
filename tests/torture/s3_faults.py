"""D: S3 faults, from a server that misbehaves on purpose about one of the four files."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from tests.support.misbehaving import Answer, Fault, broken, refused
from tests.support.snapshots import Bucket
from tests.torture.case import Block, Case, Harm, dealt, harmed, survived
from tests.torture.commands import Ended
from tests.torture.defect import FEATURES, LABELS
from tests.torture.hurry import Hurried
from tests.torture.oracle import COLUMNS
from tests.torture.s3_kinds import KINDS, Kind
from tests.torture.site import DAY, Ground, Site

Replaced = Callable[[Site, str], None]  #: makes that a table's object is replaced at some moment


def cases(_ground: Ground, _chance: random.Random) -> list[Case]:
    """Return each kind for each file, and what can go wrong with the list that the labels alone need."""
    found = [Case(f"{kind.name}: {table}", _case(kind, table)) for kind in KINDS for table in COLUMNS]
    for name, act in _REPLACED.items():
        found += [Case(f"{name}: {table}", _failed(table, partial(_replaced, act, table))) for table in COLUMNS]
    found += [Case(name, _failed(LABELS, _supersede, partial(_listed, fault))) for name, fault in _LISTS.items()]
    return found


def _quick() -> list[Case]:
    """Return all kinds that a run gets over by itself, then all that end a run."""
    meetings = [partial(_met, lot) for lot in dealt([kind for kind in KINDS if kind.survives])]
    ends = [partial(_ended, [(kind, FEATURES)]) for kind in KINDS if kind.at_once]
    ends += [partial(_ended, lot) for lot in dealt([kind for kind in KINDS if not kind.survives and not kind.at_once])]
    replaced = [partial(_replaced, act, FEATURES) for act in _REPLACED.values()]
    lists = [partial(_listed, fault) for fault in _LISTS.values()]
    return [
        Case("each fault that a run gets over, of up to four files at once", survived(*meetings)),
        Case("each fault that ends a run, of up to four files at once", harmed(*ends)),
        Case("a file replaced at each moment, one after the other", _failed(FEATURES, *replaced)),
        Case("each fault of a list, one after the other", _failed(LABELS, _supersede, *lists)),
    ]


def _case(kind: Kind, table: str) -> Callable[[Site], None]:
    if kind.survives:
        return survived(partial(_met, [(kind, table)]))
    return _failed(table, partial(_ended, [(kind, table)]))


def _met(faults: Sequence[tuple[Kind, str]], command: Sequence[str], site: Site) -> Ended:
    """Run a command whose requests for files of tables meet faults; return it when it has met them all."""
    aims = [
        (kind, site.s3.aim(kind.method, _key(site, table), *kind.faults, lasting=not kind.survives))
        for kind, table in faults
    ]
    before = len(site.s3.asked)
    ended = site.run(command, harm=Hurried())
    for kind, aim in aims:
        if len(aim.hits) < len(kind.faults):
            site.violated(0, f"{len(aim.hits)} requests met {kind.name}, {len(kind.faults)} were to")
        if kind.resumes and not any(asked.range and asked.path.endswith(aim.path) for asked in site.s3.asked[before:]):
            site.violated(0, f"{kind.name}: nothing was asked for from the middle on")
    site.s3.behave()
    return ended


def _failed(table: str, *harms: Harm) -> Callable[[Site], None]:
    """Return what runs a case of faults of one table's file, after which no other file is fetched again."""
    return partial(_failed_in_turn, table, harms)


def _failed_in_turn(table: str, harms: Sequence[Harm], site: Site) -> None:
    harmed(*harms)(site)
    fetched = Counter(asked.path for asked in site.s3.asked if asked.method == "GET")
    for path, times in fetched.items():
        if times > 1 and path.endswith(".parquet") and not path.endswith(_key(site, table)):
            site.violated(4, f"fetched {times} times: {path}")


def _ended(faults: Sequence[tuple[Kind, str]], site: Site) -> list[Ended]:
    """The run fails, and tells the tables' files."""
    ended = _met(faults, site.ingest(), site)
    for _, table in faults:
        site.check_refused(ended, file=_name(table))
    return [ended]


def _replaced(act: Replaced, table: str, site: Site) -> list[Ended]:
    """Let the object change, then put back what the manifest lists."""
    key = _key(site, table)
    act(site, key)
    ended = site.run(harm=Hurried())
    site.check_refused(ended, file=_name(table))
    site.s3.behave()
    _put(site, key, (site.bucket / key).read_bytes())
    return [ended]


def _name(table: str) -> str:
    return f"{table.removeprefix('raw_')}.parquet"


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


def _supersede(site: Site) -> list[Ended]:
    """Let a later snapshot bring other labels, which the list of the snapshots is to tell."""
    (network,) = site.files
    newer = Bucket(site.bucket).snapshot(network, DAY + timedelta(days=1), seed=1)
    newer.edit_manifest(lambda meta: meta.update(generated_at="2025-08-04T00:30:00Z"))
    site.upload()
    return []


def _listed(fault: Fault, site: Site) -> list[Ended]:
    """The list goes wrong, and the run tells the network."""
    aim = site.s3.aim("GET", f"/{site.name}", fault, lasting=True, alone=True)
    ended = site.run(harm=Hurried())
    if not aim.hits:
        site.violated(0, "nothing was listed")
    site.check_refused(ended, file="torus")
    site.s3.behave()
    return [ended]


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


BLOCK = Block("D", "S3 faults, from a server that misbehaves on purpose", cases, _quick())
