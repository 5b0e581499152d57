"""Columns, rows and bytes of a Parquet file that are not what they should be."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from tests.support.snapshots import SnapshotFiles
from tests.torture.defect import ALERTS, CLUSTERS, FEATURES, LABELS, Defect, Spoil, parquet

_FLIPS = 20
_ROW_GROUPS = 100_000


def columns() -> Iterator[Defect]:
    """Yield columns that are missing, too many, or called otherwise."""
    yield parquet("a column missing", FEATURES, lambda files: files.drop_column(FEATURES, "kcore"))
    yield parquet("a column more", ALERTS, lambda files: files.add_column(ALERTS, "risk", [1.5] * 30))
    names = {
        "in capitals": "SEVERITY",
        "with another case": "Severity",
        "with a space": "severity ",
        "in a look-alike": "s\u0435verity",
        "with a NUL": "severity\0",
        "empty": "",
        "with SQL in it": "severity` String, `x",
    }
    for what, name in names.items():
        yield parquet(f"a column called {what}", ALERTS, partial(_renamed, name))
    yield parquet("a column twice", ALERTS, _twice)
    yield parquet("a column of a dropped name instead", LABELS, partial(_dropped, "label", "_version"))
    yield parquet("another table's file", CLUSTERS, _exchanged)


def rows() -> Iterator[Defect]:
    """Yield one row more or less than the manifest lists, and none at all."""
    for difference in (-1, 1):
        for table, count in ((FEATURES, 50), (LABELS, 40)):
            listed = partial(SnapshotFiles.record_count, table=table, rows=count - difference)
            yield parquet(f"{difference:+} row in {table}", table, listed)
    yield parquet("no rows of features", FEATURES, lambda files: files.without_rows(FEATURES))


def flips(chance: random.Random) -> Iterator[Defect]:
    """Yield flips at offsets drawn by chance."""
    tables = (ALERTS, FEATURES, CLUSTERS, LABELS)
    for number in range(_FLIPS):
        place = chance.random()
        table = tables[number % len(tables)]
        yield parquet(f"a byte flipped at {place:.2%} of {table}", table, partial(_flipped, table, place))


def bytes_() -> Iterator[Defect]:
    """Yield, all with their digests and of one table: cuts, forged sizes, what is no Parquet, too many row groups."""
    edits: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda _: b"",
        "cut in its middle": lambda data: data[: len(data) // 2],
        "without its last byte": lambda data: data[:-1],
        "a footer longer than the file": lambda data: data[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        "a footer of no bytes": lambda data: data[:-8] + struct.pack("<I", 0) + b"PAR1",
        "the magic of an encrypted footer": lambda data: data[:-4] + b"PARE",
        "an error page": lambda _: b"<html>Access denied</html>",
        "zeros in place of its pages": lambda data: data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :],
    }
    for name, edit in edits.items():
        yield parquet(f"right digest, {name}", ALERTS, partial(_edited, edit))
    more: dict[str, Spoil] = {
        "the footer of another file": _other_footer,
        "a page that says it is larger": partial(_forged_page, 1),
        "encrypted, footer and all": partial(encrypt, plaintext_footer=False),
        "encrypted, with a plain footer": partial(encrypt, plaintext_footer=True),
        f"{_ROW_GROUPS:,} row groups of a column": _row_groups,
    }
    for name, spoil in more.items():
        yield parquet(f"right digest, {name}", ALERTS, spoil)


def _renamed(name: str, files: SnapshotFiles) -> None:
    files.rename_column(ALERTS, "severity", name)


def _dropped(old: str, new: str, files: SnapshotFiles) -> None:
    files.rename_column(LABELS, old, new)


def _twice(files: SnapshotFiles) -> None:
    table = files.table(ALERTS)
    files.replace_table(ALERTS, table.append_column("severity", table["severity"]))


def _exchanged(files: SnapshotFiles) -> None:
    files.overwrite(CLUSTERS, files.path(ALERTS).read_bytes(), digest=True)


def _flipped(table: str, place: float, files: SnapshotFiles) -> None:
    files.corrupt(table, int(place * files.path(table).stat().st_size))


def _edited(edit: Callable[[bytes], bytes], files: SnapshotFiles) -> None:
    files.overwrite(ALERTS, edit(files.path(ALERTS).read_bytes()), digest=True)


def _other_footer(files: SnapshotFiles) -> None:
    """Put a footer that speaks of other offsets and more rows behind the pages."""
    path = files.path(ALERTS)
    ours = path.read_bytes()
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table, table]), path, compression="none")
    theirs = path.read_bytes()
    pages, footer = ours[: -8 - _footer_size(ours)], theirs[-8 - _footer_size(theirs) :]
    files.overwrite(ALERTS, pages + footer, digest=True)


def _footer_size(data: bytes) -> int:
    return int(struct.unpack("<I", data[-8:-4])[0])


def _forged_page(column: int, files: SnapshotFiles) -> None:
    """Let a page's header say that it unpacks to more than it does.

    The header is Thrift's compact protocol: 15, the page's type, 15, its unpacked size as a varint, …
    """
    data = bytearray(files.path(ALERTS).read_bytes())
    chunk = pq.ParquetFile(files.path(ALERTS)).metadata.row_group(0).column(column)
    at = (chunk.dictionary_page_offset or chunk.data_page_offset) + 3
    if data[at - 1] != 0x15:
        raise ValueError("not where a page's size stands")
    while data[at] & 0x80:
        data[at] |= 0x7F
        at += 1
    data[at] |= 0x3F
    files.overwrite(ALERTS, bytes(data), digest=True)


class _Keys(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types for it
    """Wraps keys by turning them round."""

    def __init__(self, _: pe.KmsConnectionConfig) -> None:
        super().__init__()

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002  # the base's signature
        return key_bytes.hex().encode()

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002  # the same
        return bytes.fromhex(wrapped_key.decode())


def encrypt(files: SnapshotFiles, *, plaintext_footer: bool) -> None:
    """Encrypt a column of the alerts, and the footer unless it is to stay readable; write the digest to match."""
    table = files.table(ALERTS)
    configuration = pe.EncryptionConfiguration(
        footer_key="footer", column_keys={"columns": ["severity"]}, plaintext_footer=plaintext_footer
    )
    properties = pe.CryptoFactory(_Keys).file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    with pq.ParquetWriter(files.path(ALERTS), table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    files.record_digest(ALERTS)


def _row_groups(files: SnapshotFiles) -> None:
    """Write more row groups than any reader expects; of one column, for their metadata would fill the memory."""
    table = pa.table({"alert_id": pa.array(map(str, range(_ROW_GROUPS)))})
    pq.write_table(table, files.path(ALERTS), row_group_size=1, write_statistics=False)
    files.record_digest(ALERTS)
    files.record_count(ALERTS, _ROW_GROUPS)
