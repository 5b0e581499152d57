"""Which snapshots this run alone works on: a lock keeps out other runs on this host, a claim those on other hosts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from loguru import logger

from pipeline.snapshot import Snapshot
from pipeline.warehouse.claim_holder import Claims


class Ownership:
    """The snapshots of a run. Locks and claims are its process's, not those of the processes that it forks."""

    def __init__(self, run_lock: Callable[[Snapshot], AbstractContextManager[bool]], claims: Claims | None) -> None:
        self._run_lock, self._claims = run_lock, claims
        self._locks: dict[Snapshot, ExitStack] = {}

    def is_locked(self, snapshot: Snapshot) -> bool:
        """Tell whether this run has locked the snapshot: no other run of this deployment is at work on it."""
        return snapshot in self._locks

    def lock(self, snapshot: Snapshot) -> bool:
        """Lock a snapshot; False at once when another run of this deployment is at work on it.

        Raises WorkDirectoryError.
        """
        if snapshot in self._locks:
            return True
        with ExitStack() as stack:
            if not stack.enter_context(self._run_lock(snapshot)):
                _leave(snapshot, "another run of this deployment")
                return False
            self._locks[snapshot] = stack.pop_all()
        return True

    def claim(self, snapshot: Snapshot) -> bool:
        """Claim a locked snapshot; False when another run has claimed it and renews its claim.

        Waits up to half a minute for the end of a claim that is not renewed.
        """
        claim = self._claims.acquire(snapshot) if self._claims else None
        if claim:
            _leave(snapshot, claim.owner)
        return claim is None

    def release_claim(self, snapshot: Snapshot) -> None:
        """Let other hosts work on the snapshot."""
        if self._claims:
            self._claims.release(snapshot)

    def release(self, *snapshots: Snapshot) -> None:
        """Let any other run work on these snapshots."""
        for snapshot in snapshots:
            self.release_claim(snapshot)
            if stack := self._locks.pop(snapshot, None):
                stack.close()


def _leave(snapshot: Snapshot, owner: str) -> None:
    event = logger.bind(**snapshot.log_fields, owner=owner)
    event.warning("Left the snapshot to another run that is at work on it")
