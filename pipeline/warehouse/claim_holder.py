"""The claims that this run holds: taken before the first step of a snapshot, renewed while steps run, given back.

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

from pipeline.errors import ClaimedError, WarehouseError, WarehouseUnavailableError
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse, claims
from pipeline.warehouse.claims import LASTS_SECONDS, RENEWED_EVERY_SECONDS, Claim, Claimant

#: Seconds between two looks whether another deployment has done its work.
POLL_SECONDS = 5.0


class Claims:
    """The claims of one run; its own process renews them, and processes forked for steps may give them back."""

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

    def competing_claim(self, snapshot: Snapshot) -> Claim | None:
        """Return the claim of another deployment that is at work on the snapshot, as far as the warehouse answers.

        Raises WarehouseError when it refuses to.
        """
        try:
            claim = claims.newest_claim(self._warehouse(snapshot.network), snapshot)
        except WarehouseUnavailableError as error:
            logger.debug("Could not ask who is at work on {}: {}", snapshot, error)
            return None
        return claim if claim and claim.keeps_out(self.who) else None

    def hold(self, snapshot: Snapshot) -> bool:
        """Claim a snapshot and keep it until it is given back.

        When another deployment is at work on it, wait until it is not any more and return False: it may have done
        everything.
        """
        if snapshot in self._held or os.getpid() != self._process:
            return True
        try:
            claim = claims.take_claim(self._warehouse(snapshot.network), snapshot, self.who, self._lasts)
            if claim.keeps_out(self.who):
                self._wait_for(claim, snapshot)
                return False
        except WarehouseError as error:
            logger.bind(hint=error.hint).warning(
                "Could not claim the snapshot, another host may do the same work: {}", error
            )
        else:
            self._start_renewing(snapshot)
        return True

    @contextmanager
    def held(self, snapshot: Snapshot) -> Iterator[None]:
        """Keep a snapshot for the block. Raises ClaimedError when another deployment has it, and WarehouseError."""
        claim = claims.take_claim(self._warehouse(snapshot.network), snapshot, self.who, self._lasts)
        if claim.keeps_out(self.who):
            raise ClaimedError(
                f"{snapshot}: {claim.owner} is at work on it since {claim.claimed_at:%H:%M:%S} UTC",
                hint="wait until it is done; the claim of one that died ends by itself after two minutes",
            )
        self._start_renewing(snapshot)
        try:
            yield
        finally:
            self.release(snapshot)

    def release(self, snapshot: Snapshot) -> None:
        """Give a snapshot back; from whichever process of the run. A claim that is not given back runs out."""
        self._held.discard(snapshot)
        try:
            claims.release_claim(self._warehouse(snapshot.network), snapshot, self.who)
        except WarehouseError as error:
            logger.debug("Could not give the claim of {} back: {}", snapshot, error)

    def release_all(self) -> None:
        """Give back all that this process holds."""
        if os.getpid() != self._process:
            return
        self._stop.set()
        for snapshot in sorted(self._held):
            self.release(snapshot)

    def _wait_for(self, claim: Claim, snapshot: Snapshot) -> None:
        logger.bind(owner=claim.owner, since=f"{claim.claimed_at:%Y-%m-%dT%H:%M:%SZ}").info(
            "Waiting for another deployment to finish its work on the snapshot"
        )
        while self.competing_claim(snapshot):
            time.sleep(self._poll)

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
        if claim is None or claim.keeps_out(self.who):
            self._held.discard(snapshot)
            logger.bind(snapshot=str(snapshot), owner=claim.owner if claim else None).warning(
                "Another deployment took the snapshot over, for this run had not renewed its claim in time"
            )
        elif claim.released:
            self._held.discard(snapshot)
