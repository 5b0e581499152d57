"""What a run asks first of each of many networks, asked side by side: what is published, and whether it is the newest.

One after another took 0.03 s a network, of which most is the wait for an answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from threading import Thread

from pipeline.errors import PipelineError
from pipeline.graph.context import Context
from pipeline.graph.targets import PublishedSnapshot
from pipeline.snapshot import Snapshot
from pipeline.warehouse.publications import publications_of_many

THREADS, AT_ONCE = 4, 25  #: snapshots of one statement: a longer one keeps the server to one processor


def ask_side_by_side(context: Context, snapshots: Sequence[Snapshot]) -> None:
    """Ask for snapshots of one date and window, and keep the answers for the targets of this run.

    What does not answer is left to the targets, which wait and report. Nothing is asked that has one user or waits
    itself: an embedded warehouse, or the SOT ClickHouse.
    """
    if len(snapshots) < 2 or context.is_embedded or context.sot:
        return
    warehouses = {snapshot: context.warehouse(snapshot.network) for snapshot in snapshots}
    try:
        PublishedSnapshot(context, snapshots[0]).is_current()  # and makes the source's client, which the threads share
    except PipelineError:
        return

    groups = iter([snapshots[start : start + AT_ONCE] for start in range(1, len(snapshots), AT_ONCE)])

    def ask() -> None:
        for group in groups:
            known = publications_of_many({snapshot: warehouses[snapshot] for snapshot in group})
            for snapshot, publications in known.items():
                context.answers.ask("publications", snapshot, lambda found=publications: found)  # type: ignore[misc]
                with contextlib.suppress(PipelineError):
                    PublishedSnapshot(context, snapshot).is_current()

    threads = [Thread(target=ask, daemon=True) for _ in range(THREADS)]  # an interrupt does not wait for them
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
