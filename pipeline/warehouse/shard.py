"""The hosts of one network's shard, and which of them a process asks."""

from __future__ import annotations

from collections.abc import Sequence

from loguru import logger

from pipeline.warehouse.server import ServerWarehouse
from pipeline.warehouse.shape import OBJECTS


class Shard:
    """Replicas of each other, in the order to ask. One stays the one that is asked until it does not answer."""

    def __init__(self, hosts: Sequence[ServerWarehouse]) -> None:
        self.hosts = tuple(hosts)
        self._current: ServerWarehouse | None = None
        self._left: ServerWarehouse | None = None
        for host in self.hosts:
            host.join(self.hosts, self._leave)

    def current(self) -> ServerWarehouse:
        """Return the host to ask: the first that answers, the one that did not at last; the first when none does.

        One without all tables was away when they were created, and is passed over when another one has more.
        """
        if self._current is None:
            ordered = sorted(self.hosts, key=lambda host: host is self._left)
            answering = (host for host in ordered if host.answers())
            first = next(answering, self.hosts[0])
            if first.objects < len(OBJECTS):
                first = max([first, *answering], key=lambda host: host.objects)
            self._current = first
        return self._current

    def _leave(self, host: ServerWarehouse) -> None:
        """Ask another host from the next :meth:`current` on; who holds this one goes on with it."""
        if host is self._current:
            logger.bind(host=host.uri).debug("A host does not answer; the next try goes to another one")
            self._current, self._left = None, host
