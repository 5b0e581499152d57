"""J: four processes read all four views while snapshots are published again and rolled back."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.demo.bucket import Rows
from tests.support.clickhouse import ROOT
from tests.support.deployment import ServerReader
from tests.support.inprocess import in_process, ingest
from tests.support.snapshots import Bucket
from tests.torture import oracle
from tests.torture.case import Block, Case
from tests.torture.readers import questions
from tests.torture.site import DAY, Ground, Site

PUBLICATIONS, ROLLBACKS, READS, READERS = 200, 20, 100_000, 4
VERSIONS = 4  #: of the snapshot, published in turn


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return the one case."""
    name = f"{READS:,} reads by {READERS} processes during {PUBLICATIONS} publications and {ROLLBACKS} roll-backs"
    return [Case(name, _run)]


@dataclass
class _Reading:
    """The readers, and what they saw."""

    site: Site
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    answers: dict[str, Counter[str]] = field(default_factory=dict)  #: by question

    @contextmanager
    def running(self) -> Iterator[None]:
        """Read while the block runs."""
        server, key = self.site.ground.server, self.site.key("torus")
        options = {
            "port": server.http_port,
            "user": server.user,
            "password": server.password,
            "database": self.site.database("torus"),
            "network": key.network,
            "day": key.day,
        }
        given = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        begin = [sys.executable, "-c", "from tests.torture.readers import main; main()", *given]
        for number in range(READERS):
            command = [*begin, "--counter", str(self._counter(number))]
            self.processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        yield
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            said, _ = process.communicate(timeout=60)
            for name, seen in json.loads(said).items():
                self.answers.setdefault(name, Counter()).update(seen)

    def _counter(self, number: int) -> Path:
        return self.site.directory / f"reads-{number}"

    @property
    def reads(self) -> int:
        """How many there were so far, about."""
        counters = [self._counter(number) for number in range(READERS)]
        return sum(int(path.read_text("utf-8") or 0) for path in counters if path.exists())


def _run(site: Site) -> None:
    """Publish versions in turn, roll back now and then; each answer must be that of one whole version."""
    site.watch.stop()  # the readers of this case are others
    buckets = [Bucket(site.directory / f"version-{seed}") for seed in range(VERSIONS)]
    legal: dict[str, set[str]] = {}
    for seed, bucket in enumerate(buckets):
        rows = Rows(features=50 + seed, alerts=30 + seed, clusters=20 + seed, address_labels=40 + seed)
        bucket.snapshot("torus", DAY, rows=rows, seed=seed)
        _publish(site, bucket, seed)
        for found in oracle.differences(site.ground.server, site.database("torus"), site.key("torus"), bucket.root):
            site.violated(2, found)
        for name, query in questions(site.database("torus"), site.key("torus"), "").items():
            legal.setdefault(name, set()).add(site.ground.server.http(query).strip())
    reading = _Reading(site)
    with reading.running():
        number = 0
        while number < PUBLICATIONS or reading.reads < READS:
            _publish(site, buckets[number % VERSIONS], number)
            if number % (PUBLICATIONS // ROLLBACKS) == 0:
                _roll_back(site)
            number += 1
    _judge(site, reading, legal)


def _judge(site: Site, reading: _Reading, legal: dict[str, set[str]]) -> None:
    for name, answers in reading.answers.items():
        for answer in sorted(set(answers) - legal[name]):
            site.violated(1, f"{answers[answer]} answers to {name} were of no version: {answer[:300]}")
    site.watch.looks = sum(sum(answers.values()) for answers in reading.answers.values())


def _publish(site: Site, bucket: Bucket, number: int) -> None:
    reader = ServerReader(site.ground.server, f"{site.name}_")
    _, context = in_process(bucket.root, reader, site.directory / f"run-{number % VERSIONS}")
    ingest(context, site.files["torus"].snapshot)


def _roll_back(site: Site) -> None:
    which = ("--date", str(DAY), "--network", "torus")
    if (ended := site.run(["sot-ingest", "rollback", *which, "--yes"])).exit_code:
        site.violated(5, f"the roll-back exited {ended.exit_code}: {ended.stderr[-400:]}{ended.stdout[-400:]}")


BLOCK = Block("J", "four reading processes during 200 publications and 20 roll-backs", cases)
