"""H: Parquet files that lie about themselves or hold what does not fit, and such as only look strange."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.torture import oracle
from tests.torture.case import Block, Case
from tests.torture.defect import ALERTS, accepted, cases_of
from tests.torture.parquet_legal import edges, strange
from tests.torture.parquet_shape import bytes_, columns, flips, rows
from tests.torture.parquet_values import values
from tests.torture.site import Ground, Site

_INVALID = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"a\x80b", b"\xf4\x90\x80\x80"]  # as UTF-8


def cases(_: Ground, chance: random.Random) -> list[Case]:
    """Return defects of values, columns, rows and bytes; files that fill the memory; and what is legal."""
    defects = [*values(), *columns(), *rows(), *flips(chance), *bytes_(), *edges(), *strange()]
    return [
        *cases_of(defects),
        *_ALONE,
    ]


def _not_utf8(site: Site) -> None:
    """Load bytes that are not UTF-8: they are text to ClickHouse, and arrive as they are."""
    files = site.files["torus"]
    rest = files.table(ALERTS)["description"].to_pylist()[len(_INVALID) :]
    wanted = [*_INVALID, *(text.encode() for text in rest)]
    files.set_column(ALERTS, "description", pa.array(wanted, pa.large_binary()).view(pa.large_string()))
    site.upload()
    ended = site.run()
    if ended.exit_code:
        site.violated(5, f"exit code {ended.exit_code}: {ended.stderr[-500:]}")
    server, database = site.ground.server, site.database("torus")
    found = oracle.ask(server, f"SELECT hex(description) FROM {database}.raw_alerts FORMAT TSV").decode().split()
    if sorted(found) != sorted(value.hex().upper() for value in wanted):
        site.violated(2, "bytes arrived as others")
    site.check_idle()
    site.check_secrets()


def _unpacks(site: Site) -> None:
    """Load a text of 100 MB in each row, which the file has once, as a user with 1 GB; then what it should be."""
    files = site.files["torus"]
    good = {path: path.read_bytes() for path in (files.path(ALERTS), files.manifest_path)}
    table = files.table(ALERTS)
    large = pa.DictionaryArray.from_arrays(pa.array([0] * table.num_rows, pa.int32()), pa.array(["x" * 100_000_000]))
    position = table.schema.get_field_index("evidence_json")
    pq.write_table(
        table.set_column(position, "evidence_json", large),
        files.path(ALERTS),
        dictionary_pagesize_limit=2**31 - 1,
    )
    files.record_digest(ALERTS)
    site.upload()
    site.variables.update(CLICKHOUSE_USER="small", CLICKHOUSE_PASSWORD="")
    ended = site.run()
    site.check_refused(ended)
    site.check_seen()
    site.variables.clear()
    for path, data in good.items():
        path.write_bytes(data)
    site.upload()
    site.check_recovered([], site.run())


_ALONE = (
    Case("accepted: text that is not UTF-8", _not_utf8),
    Case("a file of a few MB that unpacks to 3 GB", _unpacks),
)

BLOCK = Block(
    "H",
    "Parquet files that lie, hold what does not fit, or only look strange",
    cases,
    [*_ALONE, Case("accepted: values at their edges, all at once", accepted(*edges()))],  # defects have their own tests
)
