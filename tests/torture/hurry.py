"""Time-outs and waits of the product, shortened: a case lasts seconds where a run would wait for minutes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tests.support.zygote import hasten


@dataclass(frozen=True)
class Hurried:
    """Waits hardly at all before it tries again; as often as the product does.

    Files come in pieces of a KiB and not of 256: a small one is resumed where it broke, as a large one is. A list is
    given up after 30 pages and not after 10,000.
    """

    s3_seconds: float = 2  #: for one read from the socket
    clickhouse_seconds: int = 30  #: for a query
    insert_seconds: int = 30

    def __call__(self) -> None:
        """Take hold of this process."""
        from pipeline import clickhouse  # noqa: PLC0415  # in the command's process alone
        from pipeline.graph import context  # noqa: PLC0415  # in the command's process alone
        from pipeline.sources import s3, s3_client  # noqa: F401, PLC0415  # all of S3, once

        hasten(connect_timeout=5.0, read_timeout=self.s3_seconds)
        s3.PIECE_BYTES = 1 << 10  # type: ignore[attr-defined]
        s3.MOST_PAGES = 30
        clickhouse.INSERT_SECONDS = self.insert_seconds - 60
        context.Context = partial(context.Context, answer_seconds=self.clickhouse_seconds)  # type: ignore[assignment, misc]
