"""H: Parquet files that lie about themselves or hold what does not fit, and such as only look strange."""

from __future__ import annotations

import random

import pyarrow as pa

from tests.torture import oracle
from tests.torture.case import Block, Case
from tests.torture.defect import ALERTS, cases_of
from tests.torture.parquet_legal import strange
from tests.torture.parquet_shape import bytes_, columns, rows
from tests.torture.parquet_values import values
from tests.torture.site import Ground, Site

_INVALID = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"a\x80b", b"\xf4\x90\x80\x80"]  # as UTF-8


def cases(_: Ground, chance: random.Random) -> list[Case]:
    """Return defects of values, columns, rows and bytes; files that fill the memory; and what is legal."""
    defects = [*values(), *columns(), *rows(), *bytes_(chance), *strange()]
    return [*cases_of(defects), Case("accepted: text that is not UTF-8", _not_utf8, kind="accepted")]


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


BLOCK = Block("H", "Parquet files that lie, hold what does not fit, or only look strange", cases)
