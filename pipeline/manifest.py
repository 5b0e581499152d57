"""META.json, from bytes to facts; the only place that knows how upstream spells them.

Upstream's exporters write three dialects, all in use, distinguished by their shape:

* current: ``"sha256": {"alerts.parquet": "<64 hex>", …}``
* list: ``"files": [{"filename": "raw_alerts.parquet", "checksum": "sha256:<64 hex>"}, …]``
* legacy: ``"files": {"alerts.parquet": {"md5": "<32 hex>"}, …}``

Whatever we look at must be well-formed, and two spellings of one fact must agree; nothing is guessed. An
error says where in the document, what was found and what was expected.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Literal, TypeVar

from pipeline.dates import parse_instant
from pipeline.errors import ManifestError
from pipeline.snapshot import MANIFEST_NAME, Snapshot
from pipeline.tables import TABLES, Table

MAX_MANIFEST_BYTES = 1 << 20

HINT = "ask upstream to publish the snapshot again; what readers see has not changed"
_NOT_JSON_HINT = (
    "look at the object at the source: it may be cut short, or an error page; what readers see has not changed"
)
_VERSION_HINT = "upstream changed the format: this pipeline must learn it first; what readers see has not changed"
_SNAPSHOT_HINT = (
    "upstream put a manifest into another snapshot's folder: tell them which; what readers see has not changed"
)
_MD5_HINT = "ask upstream for SHA-256 digests, or set INGESTION_ALLOW_MD5 to load on the weaker proof"

Algorithm = Literal["sha256", "md5"]
_T = TypeVar("_T")

_HEX_DIGITS: Mapping[Algorithm, int] = {"sha256": 64, "md5": 32}
#: The keys that give an entry's digest, and what each may hold: a key that names an algorithm holds no other.
_DIGEST_KEYS: Mapping[str, tuple[Algorithm, ...]] = {
    "sha256": ("sha256",),
    "checksum": ("sha256", "md5"),
    "md5": ("md5",),
}
_NAME_KEYS = ("filename", "name")
_ROWS_KEYS = ("rows", "row_count", "count")
_SIZE_KEYS = ("size", "size_bytes", "bytes")
_MAX_COUNT = 2**63 - 1  # what an Int64 holds
_MAX_NAME_BYTES = 255  # what a file system takes
_MAX_SHOWN = 80

_repr = reprlib.Repr()  # does not recurse into a deep value and does not copy a long one
_repr.maxstring = _repr.maxlong = _repr.maxother = _MAX_SHOWN


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says about the file of one table."""

    table: str  #: for example raw_alerts
    name: str  #: as the manifest spells it: alerts.parquet or raw_alerts.parquet
    algorithm: Algorithm
    digest: str  #: lower-case hex
    size: int | None  #: bytes, where the manifest says so
    rows: int | None  #: where the manifest says so
    content_digest: str | None = None  #: over the cells (pipeline.files.digest), where the manifest says so; hex


@dataclass(frozen=True)
class Manifest:
    """What META.json says about the files of a snapshot."""

    sha256: str  #: of META.json's bytes
    generated_at: datetime | None  #: in UTC
    files: Mapping[str, FileEntry]  #: by table name; one for each table that was asked for


def parse_manifest(data: bytes, snapshot: Snapshot, *, allow_md5: bool, tables: Iterable[Table] = TABLES) -> Manifest:
    """Return what the upstream exporter's META.json says; three dialects are in use (see the module).

    It must list the file of each of ``tables``; of other files only the names are checked. With ``allow_md5`` an entry
    may have nothing better than MD5, and its ``algorithm`` says so. Raises ManifestError when the document is
    malformed, lacks a fact that a load needs, contradicts itself, or describes another snapshot.
    """
    meta = _decode(data).members()
    _check_header(meta, snapshot)
    listing = _listing(meta)
    entries = _entries(listing)
    counts, sizes, contents = (
        meta[key].members() if key in meta else {} for key in ("counts", "sizes", "content_digests")
    )
    files = {}
    for table in tables:
        name = _name_of(table, listing, entries)
        facts = {"sha256": entries[name]} if listing.place == "sha256" else entries[name].members()
        algorithm, digest = _digest(entries[name], facts, allow_md5=allow_md5)
        size = _agreed(_present(facts, _SIZE_KEYS) + _present(sizes, table.file_names), _Node.count)
        count_keys = (table.stem, table.name, *table.file_names)
        rows = _agreed(_present(facts, _ROWS_KEYS) + _present(counts, count_keys), _Node.count)
        content = _agreed(_present(contents, [table.stem]), _Node.text)
        files[table.name] = FileEntry(table.name, name, algorithm, digest, size, rows, content)
    generated_at = meta["generated_at"].instant() if "generated_at" in meta else None
    return Manifest(hashlib.sha256(data).hexdigest(), generated_at, files)


@dataclass(frozen=True)
class _Node:
    """A value of the document and its place; what it is read as, it must be."""

    place: str  #: empty for the document itself
    value: object

    def refused(self, expected: str, *, hint: str = HINT) -> ManifestError:
        return _refusal(self.place, f"found {_shown(self.value)}, expected {expected}", hint=hint)

    def members(self) -> dict[str, _Node]:
        if not isinstance(self.value, dict):
            raise self.refused("an object")
        return {key: _Node(self._place_of(key), value) for key, value in self.value.items()}

    def elements(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise self.refused("an object or a list")
        return [_Node(f"{self.place}[{index}]", value) for index, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.refused("a string")
        return self.value

    def count(self) -> int:
        if type(self.value) is not int or not 0 <= self.value <= _MAX_COUNT:  # a bool is an int to isinstance
            raise self.refused(f"a whole number from 0 to {_MAX_COUNT}")
        return self.value

    def file_name(self) -> str:
        name = self.text()
        safe = name.isprintable() and not re.search(r"[/\\]|\.\.", name) and name not in ("", ".")
        if not safe or len(name.encode()) > _MAX_NAME_BYTES:
            raise self.refused(f"a plain file name of at most {_MAX_NAME_BYTES} bytes, without a path")
        return name

    def instant(self) -> datetime:
        with suppress(ValueError):
            return parse_instant(self.text())
        raise self.refused("an ISO 8601 time with a zone")

    def _place_of(self, key: str) -> str:
        if key.isascii() and key.isidentifier() and len(key) <= _MAX_SHOWN:
            return f"{self.place}.{key}" if self.place else key
        return f"{self.place}[{_quoted(key)}]"


def _refusal(place: str, problem: str, *, hint: str = HINT) -> ManifestError:
    return ManifestError(": ".join(part for part in (MANIFEST_NAME, place, problem) if part), hint=hint)


def _shown(value: object) -> str:
    return _cut(_repr.repr(value))


def _quoted(key: str) -> str:
    return _cut(json.dumps(key[:_MAX_SHOWN]))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _decode(data: bytes) -> _Node:
    if len(data) > MAX_MANIFEST_BYTES:
        problem = f"found {len(data)} bytes, expected at most {MAX_MANIFEST_BYTES}"
        raise _refusal("", problem, hint=_NOT_JSON_HINT)
    try:
        # Decoded here because json.loads guesses UTF-16 and UTF-32 and skips a byte order mark in bytes.
        text = data.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_number, parse_float=_number)
    except (ValueError, RecursionError) as error:  # ValueError also stands for an int of thousands of digits
        problem = f"found {_shown(data[:40])} at its start, expected JSON in UTF-8: {_cut(str(error))}"
        raise _refusal("", problem, hint=_NOT_JSON_HINT) from error
    return _Node("", document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            found = f"{_shown(members[key])} and {_shown(value)}"
            raise _refusal(_quoted(key), f"found {found}, expected the key once")
        members[key] = value
    return members


def _number(spelled: str) -> float:
    if not isfinite(number := float(spelled)):  # NaN, Infinity and 1e999
        raise _refusal("", f"found {_shown(spelled)}, expected a finite number")
    return number


def _check_header(meta: Mapping[str, _Node], snapshot: Snapshot) -> None:
    for version in _present(meta, ["schema_version"]):
        if not re.fullmatch(r"1(\.[0-9]+){0,2}", version.text()):
            raise version.refused("version 1 (1.0.0)", hint=_VERSION_HINT)
    for batch_id in _present(meta, ["batch_id"]):
        batch_id.text()
    asked = snapshot.as_dict()
    for node in _present(meta, asked):
        wanted = asked[node.place]
        if type(node.value) is not type(wanted) or node.value != wanted:  # True == 1 and 195.0 == 195
            raise node.refused(f"{wanted!r}, as asked for", hint=_SNAPSHOT_HINT)


def _listing(meta: Mapping[str, _Node]) -> _Node:
    found = _present(meta, ("sha256", "files"))
    if len(found) != 1:
        listings = [node.place for node in found]
        raise _Node("", listings or list(meta)).refused('exactly one of "sha256" and "files"')
    return found[0]


def _entries(listing: _Node) -> dict[str, _Node]:
    if listing.place == "sha256" or isinstance(listing.value, dict):
        return {_Node(node.place, key).file_name(): node for key, node in listing.members().items()}
    entries: dict[str, _Node] = {}
    for entry in listing.elements():
        named = _present(entry.members(), _NAME_KEYS)
        name = _agreed(named, _Node.file_name)
        if name is None:
            raise entry.refused('a "filename"')
        if name in entries:
            raise named[0].refused(f"each file once; {entries[name].place} lists it too")
        entries[name] = entry
    return entries


def leave_out(table: Table) -> str:
    """Say what to do when upstream has stopped to export a table."""
    return f"if upstream exports it no longer, leave {table.name} out of INGESTION_TABLES"


def _name_of(table: Table, listing: _Node, entries: Mapping[str, _Node]) -> str:
    names = [name for name in table.file_names if name in entries]
    if len(names) != 1:
        found = _Node(listing.place, names or list(entries))
        hint = HINT if names else f"{HINT}; {leave_out(table)}"
        raise found.refused(f"exactly one of {' and '.join(table.file_names)}", hint=hint)
    return names[0]


def _digest(entry: _Node, facts: Mapping[str, _Node], *, allow_md5: bool) -> tuple[Algorithm, str]:
    found: dict[Algorithm, str] = {}
    for key, allowed in _DIGEST_KEYS.items():
        for node in _present(facts, [key]):
            algorithm, digest = _digest_in(node, allowed)
            if found.setdefault(algorithm, digest) != digest:
                raise node.refused(f"{found[algorithm]!r}, as the entry says beside it")
    if "sha256" in found:
        return "sha256", found["sha256"]
    if "md5" not in found:
        raise entry.refused("a checksum")
    if not allow_md5:
        raise entry.refused("SHA-256; MD5 alone is accepted only with INGESTION_ALLOW_MD5", hint=_MD5_HINT)
    return "md5", found["md5"]


def _digest_in(node: _Node, allowed: tuple[Algorithm, ...]) -> tuple[Algorithm, str]:
    for algorithm in allowed:
        pattern = rf"(?:{algorithm}:)?([0-9a-f]{{{_HEX_DIGITS[algorithm]}}})"
        if match := re.fullmatch(pattern, node.text(), re.IGNORECASE | re.ASCII):
            return algorithm, match[1].lower()
    raise node.refused(" or ".join(f"{name} in {_HEX_DIGITS[name]} hex digits" for name in allowed))


def _present(members: Mapping[str, _Node], keys: Iterable[str]) -> list[_Node]:
    return [members[key] for key in keys if key in members]


def _agreed(nodes: list[_Node], read: Callable[[_Node], _T]) -> _T | None:
    """Return what the nodes say, None without any; they are spellings of one fact and must not differ."""
    for node in nodes:
        if read(node) != read(nodes[0]):
            raise node.refused(f"{_shown(nodes[0].value)}, as {nodes[0].place} says")
    return read(nodes[0]) if nodes else None
