"""The claims that this run holds: taken before the first step of a snapshot, renewed while steps run, released.

While the warehouse does not let us claim, work goes on without: see pipeline.warehouse.claims for what a claim is for.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loguru import logger

from pipeline.errors import ClaimedError, WarehouseError
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse, claims
from pipeline.warehouse.claims import LASTS_SECONDS, RENEWED_EVERY_SECONDS, Claim, Claimant

#: Seconds between two looks whether another run still renews its claim.
POLL_SECONDS = 1.0


class Claims:
    """The claims of one run, held by its first process alone: what it forks for steps neither renews nor releases."""

    def __init__(
        self,
        warehouse: Callable[[str], Warehouse],
        who: Claimant,
        *,
        lasts: float = LASTS_SECONDS,
        renewed_every: float = RENEWED_EVERY_SECONDS,
        poll: float = POLL_SECONDS,
    ) -> None:
        self.who = who
        self._warehouse = warehouse
        self._lasts, self._renewed_every, self._poll = lasts, renewed_every, poll
        self._held: set[Snapshot] = set()
        self._process = os.getpid()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, snapshot: Snapshot) -> Claim | None:
        """Claim a snapshot until it is released, and return None; or return the claim of another run that is at work.

        Whether that run is alive, its renewals say: the claim of one that was killed ends within the time that a claim
        lasts, which is waited for.
        """
        if snapshot in self._held:
            return None
        try:
            return self._take(snapshot, waits=True)
        except WarehouseError as error:
            logger.bind(hint=error.hint).warning(
                "Could not claim the snapshot, another host may do the same work: {}", error
            )
            return None

    @contextmanager
    def held(self, snapshot: Snapshot) -> Iterator[None]:
        """Keep a snapshot for the block. Raises ClaimedError when another run has it, and WarehouseError."""
        if claim := self._take(snapshot, waits=False):
            raise ClaimedError(
                f"{snapshot}: {claim.owner} is at work on it since {claim.claimed_at:%H:%M:%S} UTC",
                hint=f"wait until it is done; the claim of a run that was killed ends after {self._lasts:g} seconds",
            )
        try:
            yield
        finally:
            self.release(snapshot)

    def _take(self, snapshot: Snapshot, *, waits: bool) -> Claim | None:
        """Claim a snapshot and return None, or the claim that keeps this run out. Raises WarehouseError.

        One that is alive is watched if this run ``waits``; one that may be alive by another clock is, in any case.
        """
        first: Claim | None = None
        end = time.monotonic() + self._lasts + self._poll
        while True:
            unrenewed = first.number if first and time.monotonic() > end else 0
            warehouse = self._warehouse(snapshot.network)
            claim = claims.take_claim(warehouse, snapshot, self.who, self._lasts, unrenewed=unrenewed)
            if not claim.keeps_out(self.who):
                self._start_renewing(snapshot)
                return None
            if (claim.alive and not waits) or (first and claim.number != first.number):
                return claim
            if first is None:
                first = claim
                logger.bind(owner=claim.owner, seconds=self._lasts).info(
                    "Waiting for the claim of another run to be renewed, which says that it is at work, or to end"
                )
            time.sleep(self._poll)

    def release(self, snapshot: Snapshot) -> None:
        """Release a snapshot, if this process holds it. A claim that is not released ends by itself."""
        if os.getpid() != self._process or snapshot not in self._held:
            return
        self._held.discard(snapshot)
        try:
            claims.release_claim(self._warehouse(snapshot.network), snapshot, self.who)
        except WarehouseError as error:
            logger.debug("Could not release the claim of {}: {}", snapshot, error)

    def release_all(self) -> None:
        """Release all that this process holds."""
        self._stop.set()
        for snapshot in sorted(self._held):
            self.release(snapshot)

    def _start_renewing(self, snapshot: Snapshot) -> None:
        self._held.add(snapshot)
        if self._thread is None or not self._thread.is_alive():
            atexit.register(self.release_all)
            self._stop.clear()
            self._thread = threading.Thread(target=self._renew_all, name="claims", daemon=True)
            self._thread.start()

    def _renew_all(self) -> None:
        while not self._stop.wait(self._renewed_every):
            for snapshot in sorted(self._held):
                try:
                    self._renew(snapshot)
                except WarehouseError as error:
                    logger.bind(snapshot=str(snapshot)).debug("Could not renew a claim: {}", error)

    def _renew(self, snapshot: Snapshot) -> None:
        claim = claims.renew_claim(self._warehouse(snapshot.network), snapshot, self.who, self._lasts)
        if snapshot in self._held and (claim is None or not claim.is_of(self.who)):
            self._held.discard(snapshot)
            logger.bind(snapshot=str(snapshot), owner=claim.owner if claim else None).warning(
                "Another run claimed the snapshot, for this run had not renewed its claim in time"
            )
