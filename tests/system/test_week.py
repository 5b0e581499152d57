"""A week of nights as cron runs them, with what goes wrong in nights: at its end every day is published once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.snapshot import Snapshot
from tests.support.clickhouse import ROOT, OwnClickHouse
from tests.support.deployment import Deployment, Result, ServerReader, in_bucket
from tests.support.luigid import running_luigid
from tests.support.misbehaving import Answer, Misbehaving
from tests.support.receiver import Receiver
from tests.support.s3 import Bucket as S3Bucket
from tests.support.snapshots import Bucket, SnapshotFiles, upload

pytestmark = pytest.mark.slow

MONDAY = date(2025, 9, 1)  #: the first day that is processed, in the night that follows
NETWORKS = ("ethereum", "bitcoin", "torus")
FIRST = dict(zip(NETWORKS, ("01:00", "01:15", "01:30"), strict=True))
SECOND = dict(zip(NETWORKS, ("03:00", "03:15", "03:30"), strict=True))


@dataclass
class Week:
    """A deployment whose clock the test sets, and all that it talks to."""

    deployment: Deployment
    upstream: Bucket
    store: S3Bucket
    network: Misbehaving
    clickhouse: OwnClickHouse
    receiver: Receiver
    luigid_port: int
    luigid: ExitStack  #: closed it is stopped
    told: int = 0  #: messages that a test has looked at
    _written: dict[tuple[date, str], SnapshotFiles] = field(default_factory=dict)

    def night(self, day: date, *, late: tuple[str, ...] = ()) -> None:
        """Publish a day's snapshots of all networks but the late ones."""
        for name in NETWORKS:
            self.files(day, name)
            if name not in late:
                self.publish(day, name)

    def files(self, day: date, name: str) -> SnapshotFiles:
        """Return a day's files as upstream has them; written when they are first asked for."""
        if (day, name) not in self._written:
            self._written[day, name] = self.upstream.snapshot(name, day)
        return self._written[day, name]

    def publish(self, day: date, name: str) -> None:
        """Let upstream export a snapshot."""
        upload(self.upstream.root, self.store.client, self.store.name, only=Snapshot(name, day, 195))

    def run(self, day: date, clock: str, name: str, *options: str) -> Result:
        """Run cron's command of a network in the night after a day, at a time of day."""
        moment = f"{day + timedelta(days=1)}T{clock}:00"
        command = ("sot-ingest", "run", "--network", name, *options)
        return self.deployment.command(sys.executable, "-m", "tests.support.clock", moment, *command)

    def runs(self, day: date, times: dict[str, str]) -> dict[str, Result]:
        """Run all networks, each at its time."""
        return {name: self.run(day, clock, name) for name, clock in times.items()}

    def titles(self) -> list[str]:
        """Return the messages since the last call, their titles."""
        titles = [message["title"].removeprefix("sot-ingest ") for message in self.receiver.messages[self.told :]]
        self.told += len(titles)
        return titles


@pytest.fixture
def week(own_clickhouse: Callable[..., OwnClickHouse], bucket: S3Bucket, tmp_path: Path) -> Iterator[Week]:
    """All parts, running."""
    address = urlsplit(bucket.endpoint)
    network = Misbehaving((str(address.hostname), int(address.port or 0)))
    receiver, clickhouse = Receiver(), own_clickhouse()
    deployment = Deployment(
        in_bucket(bucket.name, network.url), ServerReader(clickhouse, "w_", NETWORKS), tmp_path / "run"
    )
    with network.running(), receiver.running(), ExitStack() as luigid:
        port = luigid.enter_context(running_luigid(tmp_path / "luigid"))
        (deployment.directory).mkdir()
        (deployment.directory / "luigi.cfg").write_text(f"[core]\ndefault-scheduler-port = {port}\n")
        deployment.variables.update(receiver.environment, PYTHONPATH=str(ROOT))
        yield Week(deployment, Bucket(tmp_path / "upstream"), bucket, network, clickhouse, receiver, port, luigid)


def codes(results: dict[str, Result]) -> list[int]:
    """Return the exit codes, in the order of the runs."""
    return [result.exit_code for result in results.values()]


def test_a_week_of_nights(week: Week) -> None:
    """Every night's trouble is repaired by the run of 3 AM, which does what is missing and no more; people are told."""
    nights = [MONDAY + timedelta(days=number) for number in range(7)]
    _an_ordinary_night(week, nights[0])
    _a_late_snapshot(week, nights[1])
    _a_bad_day_that_upstream_repairs(week, nights[2])
    _a_dead_clickhouse(week, nights[3])
    _a_corrupted_download(week, nights[4])
    _a_dead_luigid(week, nights[5])
    _an_ordinary_night(week, nights[6])
    for day in nights:
        for name in NETWORKS:
            snapshot = Snapshot(name, day, 195)
            assert len(week.deployment.publications(snapshot)) == 1, snapshot
            assert {table: len(loads) for table, loads in week.deployment.loads(snapshot).items()} == dict.fromkeys(
                week.deployment.published(snapshot), 1
            )
            week.deployment.assert_readers_see(week.files(day, name))
    assert week.deployment.work_files() == {}


def _an_ordinary_night(week: Week, day: date) -> None:
    week.night(day)
    assert codes(week.runs(day, FIRST)) == [0, 0, 0]
    second = week.runs(day, SECOND)
    assert codes(second) == [0, 0, 0]
    assert [result.done for result in second.values()] == [[], [], []]
    assert week.titles() == []


def _a_late_snapshot(week: Week, day: date) -> None:
    week.night(day, late=("torus",))
    assert codes(week.runs(day, FIRST)) == [0, 0, 20]
    assert week.titles() == [f"found no snapshot: torus {day}"]
    week.publish(day, "torus")
    second = week.runs(day, SECOND)
    assert codes(second) == [0, 0, 0]
    assert second["ethereum"].done == second["bitcoin"].done == []
    assert len(second["torus"].events("Loaded table")) == 4
    assert week.titles() == [f"recovered: torus {day}"]


def _a_bad_day_that_upstream_repairs(week: Week, day: date) -> None:
    files = week.files(day, "bitcoin")
    good = files.path("raw_clusters").read_bytes()
    files.corrupt("raw_clusters", 100)
    week.night(day)
    assert codes(week.runs(day, FIRST)) == [0, 30, 0]
    assert codes(week.runs(day, SECOND)) == [0, 30, 0]
    assert week.titles() == [f"failed: bitcoin {day}"] * 2
    files.overwrite("raw_clusters", good, digest=False)
    week.publish(day, "bitcoin")
    repaired = week.run(day, "11:20", "bitcoin")
    assert repaired.exit_code == 0, repaired.stderr
    assert [event["table"] for event in repaired.events("Downloaded file")] == ["raw_clusters"]
    assert week.titles() == [f"recovered: bitcoin {day}"]


def _a_dead_clickhouse(week: Week, day: date) -> None:
    week.night(day)
    first = {"ethereum": week.run(day, FIRST["ethereum"], "ethereum")}
    week.clickhouse.kill()  # at 01:10
    first |= {name: week.run(day, FIRST[name], name) for name in ("bitcoin", "torus")}
    assert codes(first) == [0, 35, 35]
    week.clickhouse.start()  # at 02:40
    assert week.titles() == [f"failed: bitcoin {day}", f"failed: torus {day}"]
    second = week.runs(day, SECOND)
    assert codes(second) == [0, 0, 0]
    assert [len(result.events("Loaded table")) for result in second.values()] == [0, 4, 4]
    assert week.titles() == [f"recovered: bitcoin {day}", f"recovered: torus {day}"]


def _a_corrupted_download(week: Week, day: date) -> None:
    def flip(answer: Answer) -> Answer:
        return replace(answer, body=answer.body[:50] + bytes([answer.body[50] ^ 1]) + answer.body[51:])

    week.night(day)
    week.network.plan("GET", lambda answer: answer, flip)  # META.json, and the first file
    first = week.runs(day, FIRST)
    assert codes(first) == [30, 0, 0]
    kept = len(first["ethereum"].events("Downloaded file"))
    second = week.runs(day, SECOND)
    assert codes(second) == [0, 0, 0]
    assert len(second["ethereum"].events("Downloaded file")) == 4 - kept
    assert second["ethereum"].events("Downloaded manifest") == []
    assert week.titles() == [f"failed: ethereum {day}", f"recovered: ethereum {day}"]


def _a_dead_luigid(week: Week, day: date) -> None:
    week.night(day)
    first = {"ethereum": week.run(day, FIRST["ethereum"], "ethereum")}
    week.luigid.close()
    first["bitcoin"] = week.run(day, FIRST["bitcoin"], "bitcoin")
    week.luigid.enter_context(running_luigid(week.deployment.directory, week.luigid_port))
    first["torus"] = week.run(day, FIRST["torus"], "torus")
    assert codes(first) == [0, 0, 0]
    warned = {name: [e["level"] for e in result.log() if "luigid" in e["message"]] for name, result in first.items()}
    assert warned == {"ethereum": [], "bitcoin": ["WARNING"], "torus": []}
    assert codes(week.runs(day, SECOND)) == [0, 0, 0]
    assert week.titles() == []
