"""Readers of a site: what a query over all four views sees of each snapshot on each server, all the time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import urllib3

from tests.support.clickhouse import ClickHouseError, ClickHouseServer
from tests.torture import oracle
from tests.torture.oracle import Seen

if TYPE_CHECKING:
    from tests.torture.site import Site


@dataclass
class Watch:
    """Readers: what a query over all four views saw of each snapshot, all the time."""

    site: Site
    pause: float  #: seconds between two looks; one costs a tenth of a second of CPU
    states: dict[str, set[Seen]] = field(default_factory=dict)  #: by network
    looks: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look for as long as the block takes."""
        servers = self.site.ground.servers
        threads = [threading.Thread(target=self._look_again, args=(server,), daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop()
            for thread in threads:
                thread.join()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self, server: ClickHouseServer) -> None:
        """Look once at each snapshot."""
        for network in self.site.files:
            with suppress(ClickHouseError, urllib3.exceptions.HTTPError, OSError):
                state = oracle.seen(server, self.site.database(network), self.site.key(network))
                self.states.setdefault(network, set()).add(state)
                self.looks += 1

    def _look_again(self, server: ClickHouseServer) -> None:
        while not self._stopped.wait(self.pause):
            self.look(server)
