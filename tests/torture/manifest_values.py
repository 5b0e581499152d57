"""What may be wrong with the values in META.json, and what may be otherwise without being wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.support.snapshots import SnapshotFiles
from tests.torture.defect import Defect, legal, manifest

Meta = dict[str, Any]
Edit = Callable[[Meta], object]

#: Members that other dialects of upstream's do not have either.
_OPTIONAL = ("schema_version", "batch_id", "network", "processing_date", "window_days", "generated_at", "counts")

_WRONG: dict[str, tuple[object, ...]] = {
    "schema_version": ("2.0.0", "1.0.0 ", 1, None),
    "batch_id": (5,),
    "network": ("bitcoin", "Torus", None),
    "processing_date": ("2025-08-02", "20250801", 20250801),
    "window_days": (90, "195", 195.0, True),
    "generated_at": (1754181000, "yesterday"),
    "counts": ([], None),
    "sha256": ([], None, "0" * 64, {}),
}
_WRONG_COUNTS = (-1, 2**63, 10**30, 30.5, 30.0, "30", True, None, 29, 31, 0)
_WRONG_DIGESTS = {
    "empty": "",
    "null": None,
    "of 63 digits": "0" * 63,
    "of 65 digits": "0" * 65,
    "with a letter that is no digit": "g" + "0" * 63,
    "in full-width digits": "\uff10" * 64,
    "with a line end behind it": "0" * 64 + "\n",
    "of zeros": "0" * 64,
    "as an MD5": "0" * 32,
    "with another algorithm's name": "md5:" + "0" * 64,
    "as a list": ["0" * 64],
}


def values() -> Iterator[Defect]:
    """Yield defects of members, counts, digests, and lists; and what is legal."""
    yield manifest("no sha256", _edited(lambda meta: meta.pop("sha256")))
    for name in _OPTIONAL:
        yield legal(f"no {name}", _edited(partial(_without, name)))
    for name, wrong in _WRONG.items():
        for value in wrong:
            yield manifest(f"{name}: {value!r:.40}", _edited(partial(_with, name, value)))
    for count in _WRONG_COUNTS:
        defect = manifest(f"count of alerts: {count!r}", _edited(partial(_counted, count)))
        in_range = type(count) is int and 0 <= count < 100
        yield Defect(defect.name, defect.spoil, "alerts.parquet") if in_range else defect
    for name, digest in _WRONG_DIGESTS.items():
        defect = manifest(f"a digest {name}", _edited(partial(_digest, digest)))
        of_file = digest == "0" * 64
        yield Defect(defect.name, defect.spoil, "alerts.parquet") if of_file else defect
    yield Defect("digests of two tables swapped", _edited(_swapped), ".parquet")
    yield legal("digests in capitals", _edited(_capitals))
    yield legal("schema version 1.7", _edited(partial(_with, "schema_version", "1.7")))
    yield legal("the list dialect", partial(SnapshotFiles.as_list_dialect, prefix=True))
    yield from _lists()


def _lists() -> Iterator[Defect]:
    edits: dict[str, Callable[[list[Meta]], object]] = {
        "a file twice in a list": lambda listed: listed.append(dict(listed[0])),
        "an entry without a name": lambda listed: listed[0].pop("filename"),
        "an entry without a checksum": lambda listed: listed[0].pop("checksum"),
        "two checksums that disagree": lambda listed: listed[0].update(sha256="0" * 64),
        "an entry that is null": lambda listed: listed.append(None),  # type: ignore[arg-type]  # that is the defect
        "a size of -1": lambda listed: listed[0].update(size=-1),
        "rows that disagree": lambda listed: listed[0].update(rows=1, row_count=2),
    }
    for name, edit in edits.items():
        yield manifest(name, partial(_listed, edit))
    yield manifest("nothing better than MD5", SnapshotFiles.as_legacy_dialect)
    yield manifest("both dialects at once", _edited(lambda meta: meta.update(files=[])))


def _edited(edit: Edit) -> Callable[[SnapshotFiles], None]:
    return lambda files: files.edit_manifest(edit)


def _without(name: str, meta: Meta) -> None:
    meta.pop(name)


def _with(name: str, value: object, meta: Meta) -> None:
    meta[name] = value


def _counted(count: object, meta: Meta) -> None:
    meta["counts"]["alerts"] = count


def _digest(digest: object, meta: Meta) -> None:
    meta["sha256"]["alerts.parquet"] = digest


def _swapped(meta: Meta) -> None:
    digests = meta["sha256"]
    one, other = "alerts.parquet", "clusters.parquet"
    digests[one], digests[other] = digests[other], digests[one]


def _capitals(meta: Meta) -> None:
    meta["sha256"] = {name: digest.upper() for name, digest in meta["sha256"].items()}


def _listed(edit: Callable[[list[Meta]], object], files: SnapshotFiles) -> None:
    files.as_list_dialect(facts=True)
    files.edit_manifest(lambda meta: edit(meta["files"]))
