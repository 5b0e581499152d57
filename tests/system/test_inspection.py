"""``check`` and ``verify`` tell people as a run does; each network has a dead-man's switch of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from pipeline.dates import yesterday
from tests.support.deployment import ALONE, HASTE, Deployment, EmbeddedReader, ServerReader, in_directory, run_of
from tests.support.receiver import Receiver
from tests.support.snapshots import Bucket

CHECK, VERIFY = ("sot-ingest", "check"), ("sot-ingest", "verify", "--date")


@dataclass
class Site:
    """A deployment of torus and bitcoin, and those who are told."""

    deployment: Deployment
    bucket: Bucket
    receiver: Receiver

    def told(self, *command: str) -> tuple[int, list[tuple[str, str]]]:
        """Run a command; return its exit code, and kind and title of what it sent."""
        before = len(self.receiver.messages)
        result = self.deployment.command(*command)
        return result.exit_code, [(sent["type"], sent["title"]) for sent in self.receiver.messages[before:]]

    def pings(self, *command: str) -> list[str]:
        """Run a command; return its pings, those of the start before those of the end."""
        before = len(self.receiver.pings)
        self.deployment.command(*command)
        return sorted(self.receiver.pings[before:], key=lambda ping: (not ping.endswith("start"), ping))


@pytest.fixture
def site(server_reader: ServerReader, tmp_path: Path) -> Iterator[Site]:
    """Nothing is ingested yet."""
    with Receiver().running() as receiver:
        bucket = Bucket(tmp_path / "bucket")
        deployment = Deployment(in_directory(bucket.root), server_reader, tmp_path / "run")
        deployment.variables |= {**HASTE, "INGESTION_NETWORKS": "torus,bitcoin", **receiver.environment}
        yield Site(deployment, bucket, receiver)


def test_a_stale_day_reaches_people_and_its_recovery_too(site: Site) -> None:
    """A message each time that ``check`` finds it, one when all is fresh again, and then none."""
    files = {network: site.bucket.snapshot(network, yesterday()) for network in ("torus", "bitcoin")}
    assert site.deployment.run(files["bitcoin"].snapshot).exit_code == 0
    stale = (3, [("failure", "sot-ingest check failed: torus")])
    assert site.told(*CHECK) == stale
    assert site.told(*CHECK) == stale
    assert "torus (195 days):\n  nothing: nothing with a window" in site.receiver.messages[-1]["message"]
    assert site.told(*CHECK, "--network", "bitcoin") == (0, [])
    assert site.deployment.run(files["torus"].snapshot).exit_code == 0
    assert site.told(*CHECK) == (0, [("success", "sot-ingest check recovered: torus")])
    assert site.receiver.messages[-1]["message"].startswith("torus (195 days): in order again\n")
    assert site.told(*CHECK) == (0, [])
    assert site.deployment.work_files() == {}


def test_a_dead_warehouse_reaches_people_through_check(site: Site) -> None:
    """Exit 35 is told with its cause, and so is that it answers again."""
    files = site.bucket.snapshot("torus", yesterday())
    assert site.deployment.run(files.snapshot).exit_code == 0
    port, site.deployment.variables["CLICKHOUSE_PORT"] = cast(ServerReader, site.deployment.reader).server.port, "1"
    assert site.told(*CHECK, "--network", "torus") == (35, [("failure", "sot-ingest check failed: torus")])
    assert "  unknown: clickhouse at 127.0.0.1:1" in site.receiver.messages[-1]["message"]
    site.deployment.variables["CLICKHOUSE_PORT"] = str(port)
    assert site.told(*CHECK, "--network", "torus") == (0, [("success", "sot-ingest check recovered: torus")])


def test_what_verify_finds_reaches_people_and_its_repair_too(site: Site) -> None:
    """The message has finding and hint; only a look at that very day says that it is in order again."""
    days = [site.bucket.snapshot("torus", seed=1), site.bucket.snapshot("torus", yesterday(), seed=1)]
    for files in days:
        assert site.deployment.run(files.snapshot).exit_code == 0
    reader = cast(ServerReader, site.deployment.reader)
    reader.server.http(
        f"DELETE FROM {reader.prefix}torus.raw_alerts_loads WHERE processing_date = '2025-08-01' AND severity != ''"
    )
    assert site.told(*VERIFY, "2025-08-01") == (3, [("failure", "sot-ingest verify failed: torus")])
    body = site.receiver.messages[-1]["message"]
    assert body.startswith("torus 2025-08-01 (195 days):\n2025-08-01 torus, 195 days: rows\n")
    (repair,) = set(re.findall(r"sot-ingest (rerun .*)", body))
    assert site.told(*VERIFY, str(yesterday())) == (0, [])
    assert site.deployment.command("sot-ingest", *repair.split(), "--yes", *ALONE).exit_code == 0
    recovered = (0, [("success", "sot-ingest verify recovered: torus")])
    assert site.told(*VERIFY, "2025-08-01") == recovered
    assert site.told(*VERIFY, "2025-08-01") == (0, [])


def test_each_network_and_command_has_a_switch_of_its_own(site: Site) -> None:
    """``{network}`` and ``{command}`` in PING_URL: every network is told its own exit code, by both commands."""
    site.deployment.variables["PING_URL"] += "/{command}/{network}"
    files = site.bucket.snapshot("torus", yesterday())

    def expected(command: str, **codes: int) -> list[str]:
        ends = sorted(f"/{command}/{network}/{code}" for network, code in codes.items())
        return [*sorted(f"/{command}/{network}/start" for network in codes), *ends]

    day = files.snapshot.processing_date.isoformat()
    both = ("sot-ingest", "run", *ALONE, "--date", day)
    assert site.pings(*both) == expected("run", torus=0, bitcoin=20)
    luigi = ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--processing-date", day, "--local-scheduler")
    assert site.pings(*luigi) == expected("luigi", torus=0, bitcoin=20)
    assert site.pings(*CHECK) == expected("check", torus=0, bitcoin=3)
    assert site.pings(*VERIFY, day) == expected("verify", torus=0, bitcoin=0)
    assert site.pings(*run_of(files.snapshot)) == expected("run", torus=0)
    backfill = ("sot-ingest", "backfill", "--from", day, "--to", day, "--network", "torus", *ALONE)
    assert site.pings(*backfill) == expected("backfill", torus=0)


def test_doctor_tries_messages_and_pings(tmp_path: Path) -> None:
    """With --notify only: a message to each service, and a note to the monitor that is no sign of life."""
    with Receiver().running() as receiver:
        variables = {**receiver.environment, "INGESTION_NETWORKS": "torus"}
        deployment = Deployment(
            in_directory(tmp_path), EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run", variables
        )
        doctor = ("sot-ingest", "doctor", "--offline", "--json")
        assert deployment.command(*doctor).exit_code == 0
        assert receiver.received == []
        tried = deployment.command(*doctor, "--notify")
        found = {each["check"]: each["state"] for each in json.loads(tried.stdout)["findings"]}
        assert (tried.exit_code, found["messages"], found["pings"]) == (0, "ok", "ok")
        assert [sent["title"] for sent in receiver.messages] == ["sot-ingest doctor: a trial"]
        assert receiver.pings == ["/log"]
        receiver.status = 403
        refused = deployment.command(*doctor, "--notify")
        found = {each["check"]: each["state"] for each in json.loads(refused.stdout)["findings"]}
        assert (refused.exit_code, found["messages"], found["pings"]) == (2, "failed", "failed")
        assert "secret" not in tried.stdout + refused.stdout + tried.stderr + refused.stderr


def test_a_message_needs_nothing_but_its_address(tmp_path: Path) -> None:
    """``sot-ingest notify``: sent whatever else is wrong; exit 2 when nobody is named, 30 when the service refuses."""
    with Receiver().running() as receiver:
        deployment = Deployment({}, EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run")
        assert deployment.command("sot-ingest", "notify", "a title").exit_code == 2
        deployment.variables = {"NOTIFY_URLS": receiver.environment["NOTIFY_URLS"], "INGESTION_WINDOW_DAYS": "no"}
        result = deployment.command("sot-ingest", "notify", "a title")
        assert (result.exit_code, [sent["title"] for sent in receiver.messages]) == (0, ["a title"])
        assert "secret" not in result.stdout + result.stderr
        receiver.status = 500
        assert deployment.command("sot-ingest", "notify", "a title").exit_code == 30
