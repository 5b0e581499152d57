"""Whether readers see a day already, and why not: for jobs that wait for it."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loguru import logger

from pipeline.errors import WarehouseError
from pipeline.graph.auditing import hint_to_accept
from pipeline.graph.context import Context
from pipeline.graph.targets import VisibleSnapshot
from pipeline.operations.history import attempts_of
from pipeline.snapshot import Snapshot
from pipeline.warehouse.audit_log import is_held, newest_verdicts
from pipeline.warehouse.publications import Publication, newest_publication
from pipeline.warehouse.step_log import step_records

#: Seconds between two looks, and what chance adds to them at the most, so that jobs do not look at once.
LOOK_SECONDS, LOOK_JITTER = 15.0, 5.0

ReadinessState = Literal["published", "not yet", "failed", "held"]


@dataclass(frozen=True)
class Readiness:
    """What a job that waits for a snapshot wants to know."""

    snapshot: Snapshot
    state: ReadinessState
    publication: Publication | None = None  #: what readers see
    error: str = ""  #: why the newest run published nothing, or which audits hold the day
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        seen = self.publication
        return {
            **self.snapshot.as_dict(),
            "state": self.state,
            "publication_id": seen.publication_id if seen else None,
            "published_at": seen.published_at.isoformat() if seen else None,
            "rows": dict(seen.row_counts) if seen else None,
            "error": self.error or None,
            "hint": self.hint or None,
        }


def readiness_of(shared: Context, snapshot: Snapshot) -> Readiness:
    """Tell whether readers see all tables of a snapshot, and if not whether it is held, or the newest run failed.

    Raises WarehouseError.
    """
    warehouse, day = shared.warehouse(snapshot.network), snapshot.processing_date
    if seen := VisibleSnapshot(shared, snapshot).publication():
        return Readiness(snapshot, "published", seen)
    verdict = newest_verdicts(warehouse, snapshot.network, day, day).get(snapshot)
    before = newest_publication(warehouse, snapshot)
    if verdict and is_held(verdict, before.published_at if before else None):
        return Readiness(snapshot, "held", error=f"held by {verdict.message}", hint=hint_to_accept(snapshot))
    attempts = attempts_of(step_records(warehouse, snapshot.network, day, day, snapshot.window_days))
    if attempts and attempts[0].outcome == "failed":
        failed = attempts[0].troubles[-1]
        return Readiness(snapshot, "failed", error=f"{failed.title}: {failed.error}", hint=failed.hint)
    return Readiness(snapshot, "not yet")


def wait_until_published(shared: Context, snapshots: Sequence[Snapshot], timeout: float) -> list[Readiness]:
    """Return what is known of each snapshot when all are published, else after ``timeout`` seconds.

    A warehouse that does not answer is asked again. Raises WarehouseError when it does not answer in the end, or
    refuses us.
    """
    end, found = time.monotonic() + timeout, dict[Snapshot, Readiness]()
    while True:
        left = end - time.monotonic()
        try:
            for snapshot in snapshots:
                if snapshot not in found or found[snapshot].state != "published":
                    found[snapshot] = readiness_of(shared, snapshot)
        except WarehouseError as error:
            if not error.transient or left <= 0:
                raise
            logger.bind(hint=error.hint).warning("Could not look whether the day is published: {}", error)
        else:
            if left <= 0 or all(each.state == "published" for each in found.values()):
                return list(found.values())
        time.sleep(min(left, LOOK_SECONDS + random.uniform(0, LOOK_JITTER)))  # noqa: S311  # no secret
