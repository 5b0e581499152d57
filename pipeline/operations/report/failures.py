"""The failures on the report: those that say the same of other days, networks or tables once, with a count."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pipeline.operations.report.days import TROUBLES
from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import StepRecord

#: What two texts about the same cause differ in: dates and times, ids and digests, numbers.
_VARIES = re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ][\d:.]+\S*)?|\b[0-9a-f-]{12,}\b|\d[\d,.]*", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """Failures for the same cause."""

    records: tuple[StepRecord, ...]  #: the newest first; at least one
    open_snapshots: frozenset[Snapshot]  #: of them, those whose newest attempt failed or is held

    @property
    def newest(self) -> StepRecord:
        """The newest of them."""
        return self.records[0]

    @property
    def snapshots(self) -> list[Snapshot]:
        """What they are about, the newest failure first, each once."""
        return list(dict.fromkeys(record.snapshot for record in self.records))


def grouped(records: Iterable[StepRecord], still_open: Collection[Snapshot]) -> list[Failure]:
    """Return the failures among records, and what audits held; records are the oldest first.

    Those that are open come first, then the newest.
    """
    by_cause: dict[tuple[str, str], list[StepRecord]] = {}
    for record in records:
        if record.state in TROUBLES:
            by_cause.setdefault(_cause(record), []).append(record)
    found = [
        Failure(tuple(same[::-1]), frozenset(record.snapshot for record in same if record.snapshot in still_open))
        for same in by_cause.values()
    ]
    found.sort(key=lambda failure: failure.newest.started_at, reverse=True)
    return sorted(found, key=lambda failure: not failure.open_snapshots)


def _cause(record: StepRecord) -> tuple[str, str]:
    """Return what is the same in failures for the same cause: the step, and its error without what varies."""
    text = record.error
    for own in filter(None, (record.snapshot.network, record.table, record.table.removeprefix("raw_"))):
        text = text.replace(own, "…")
    return record.step, _VARIES.sub("#", text)
