"""Audits: a snapshot that is whole but absurd is held, and an operator accepts it or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo.bucket import Rows
from pipeline.errors import WarehouseError
from pipeline.graph import steps
from pipeline.operations.accept import HeldSnapshot, chosen_audits, find_held
from pipeline.warehouse.audit_log import record_audits
from tests.support.deployment import Deployment, Reader, Result, ServerReader, in_directory, selection
from tests.support.json_schemas import mistakes
from tests.support.packaged_audits import switched_off
from tests.support.receiver import Receiver
from tests.support.snapshots import SMALL, Bucket, SnapshotFiles
from tests.support.sot import context_of

#: Two audits of an operator's own, which need no other day.
FEW = """-- Fewer rows than a table ever has.
-- level: hold
-- message: {{table}} has {{rows}} rows, expected at least {{least}}
-- parameter least = 10
SELECT table, rows, {{least:UInt32}} AS least, rows < least AS wrong FROM {{row_counts}} WHERE table = 'raw_{name}'
"""
ABSURD = Rows(features=50, alerts=9, clusters=9, address_labels=40)
DAY = ("--date", "2025-08-01", "--network", "torus")


@pytest.fixture
def audits(tmp_path: Path) -> Path:
    """The operator's directory, which switches the packaged ones off."""
    directory = Path(switched_off(tmp_path)["INGESTION_AUDITS_PATH"])
    for name in ("alerts", "clusters"):
        (directory / f"few_{name}.sql").write_text(FEW.format(name=name))
    return directory


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """What upstream publishes."""
    return Bucket(tmp_path / "bucket")


def deployed(bucket: Bucket, reader: Reader, audits: Path, directory: Path) -> Deployment:
    """Return a deployment with one network."""
    variables = {"INGESTION_NETWORKS": "torus", "INGESTION_AUDITS_PATH": str(audits)}
    return Deployment(in_directory(bucket.root), reader, directory, variables)


@pytest.fixture
def deployment(bucket: Bucket, reader: Reader, audits: Path, tmp_path: Path) -> Deployment:
    """On either warehouse."""
    return deployed(bucket, reader, audits, tmp_path / "run")


@pytest.fixture
def on_server(bucket: Bucket, server_reader: ServerReader, audits: Path, tmp_path: Path) -> Deployment:
    """On a server."""
    return deployed(bucket, server_reader, audits, tmp_path / "run")


def accept(deployment: Deployment, *options: str) -> Result:
    """Accept what is held of the day."""
    return deployment.command("sot-ingest", "accept", *DAY, "--reason", "it was quiet", *options)


def status(deployment: Deployment) -> dict[str, Any]:
    """Return what ``status`` says of the day."""
    result = deployment.command("sot-ingest", "status", "--date", "2025-08-01", "--days", "1", "--json")
    (day,) = json.loads(result.stdout)
    return dict(day)


def audited(deployment: Deployment) -> Any:
    """Return what ``audit`` says of the day, and its exit code."""
    result = deployment.command("sot-ingest", "audit", *DAY, "--json")
    found = {each["audit"]: each["outcome"] for each in json.loads(result.stdout)[0]["audits"]}
    return result.exit_code, json.loads(result.stdout)[0]["state"], found["few_alerts"], found["few_clusters"]


def seen_alerts(deployment: Deployment) -> int:
    """Return how many alerts readers see."""
    ((count,),) = deployment.query("torus", "SELECT count() FROM {db}.raw_alerts")
    return int(count)


def test_an_absurd_day_is_held_until_it_is_accepted(deployment: Deployment, bucket: Bucket, tmp_path: Path) -> None:
    """Readers keep what they have, and a rerun loads nothing; accepted for one audit, then for all; twice is once."""
    deployment.variables["METRICS_PATH"] = str(tmp_path / "metrics" / "sot.prom")
    good = bucket.snapshot()
    assert deployment.run(good.snapshot).exit_code == 0
    assert audited(deployment) == (0, "published", "passed", "passed")

    absurd = bucket.snapshot(rows=ABSURD, seed=1)
    held = deployment.run(absurd.snapshot)
    assert held.exit_code == 30
    assert [event["message"] for event in held.errors()] == [
        f"Step failed: held by few_{name}: raw_{name} has {rows} rows, expected at least 10"
        for name, rows in (("alerts", 9), ("clusters", 9))
    ]
    assert "sot-ingest accept --date 2025-08-01 --network torus" in held.errors()[0]["hint"]
    assert seen_alerts(deployment) == SMALL.alerts
    assert (status(deployment)["state"], status(deployment)["step"]) == (
        "held",
        "AuditSnapshot few_alerts, few_clusters",
    )
    assert audited(deployment) == (3, "held", "held", "held")
    gauges = (tmp_path / "metrics" / "sot-torus-published.prom").read_text()
    assert 'sot_ingest_held_days{network="torus"} 1.0' in gauges

    again = deployment.run(absurd.snapshot)
    assert (again.exit_code, again.events("Loaded table"), len(again.errors())) == (30, [], 2)
    collected = deployment.command("sot-ingest", "gc", "--keep-versions", "1", "--yes", "--json")
    assert json.loads(collected.stdout)["loads"] == []

    one = accept(deployment, "--audit", "few_alerts")
    assert one.exit_code == 30
    assert ["few_clusters" in event["message"] for event in one.errors()] == [True]
    assert (seen_alerts(deployment), status(deployment)["step"]) == (SMALL.alerts, "AuditSnapshot few_clusters")

    result = accept(deployment, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    (_, publication) = deployment.publications(absurd.snapshot)
    assert (said["accepted"], said["publication_id"]) == (["few_clusters"], publication["publication_id"])
    deployment.assert_readers_see(absurd)
    assert deployment.work_files() == {}
    who = "SELECT audit, reason, user != '' FROM {db}.sot_audits WHERE outcome = 'accepted' ORDER BY recorded_at, audit"
    assert deployment.query("torus", who) == [(name, "it was quiet", 1) for name in ("few_alerts", "", "few_clusters")]
    assert deployment.run(absurd.snapshot).done == []
    assert (status(deployment)["state"], audited(deployment)) == ("published", (0, "published", *["accepted"] * 2))
    twice = accept(deployment)
    assert (twice.exit_code, len(deployment.publications(absurd.snapshot))) == (0, 2)
    assert "accepted by " in twice.stdout


def held(deployment: Deployment, bucket: Bucket, seed: int = 1) -> SnapshotFiles:
    """Let upstream publish an absurd day, and a run hold it."""
    absurd = bucket.snapshot(rows=ABSURD, seed=seed)
    result = deployment.run(absurd.snapshot)
    assert result.exit_code == 30, result.stderr
    return absurd


def test_who_waits_for_a_day_learns_that_it_is_held(on_server: Deployment, bucket: Bucket) -> None:
    """Exit 30 with the audits and what to do, until it is accepted."""
    held(on_server, bucket)
    wait = ("sot-ingest", "wait", *DAY, "--json")
    waited = on_server.command(*wait)
    said = json.loads(waited.stdout)
    assert (waited.exit_code, said["state"], mistakes("wait", said)) == (30, "held", [])
    assert said["snapshots"][0]["error"] == "held by few_alerts, few_clusters"
    assert "sot-ingest accept --date 2025-08-01" in said["snapshots"][0]["hint"]
    assert accept(on_server).exit_code == 0
    assert on_server.command(*wait).exit_code == 0


def test_what_is_not_as_it_was_held_is_not_accepted(
    on_server: Deployment, bucket: Bucket, tmp_path: Path, audits: Path
) -> None:
    """Nothing held; an audit that holds nothing; another manifest at the source, none, or no source; lost rows."""
    nothing = accept(on_server)
    assert (nothing.exit_code, nothing.log()[0]["message"]) == (2, "torus/2025-08-01/195: no audit holds it")
    absurd = held(on_server, bucket)
    with pytest.raises(WarehouseError, match="have not passed the audits"):
        steps.publish_snapshot(context_of(on_server), absurd.snapshot)
    unknown = accept(on_server, "--audit", "few_alert")
    assert (unknown.exit_code, "did you mean few_alerts?" in unknown.log()[0]["message"]) == (2, True)
    assert accept(on_server, "--reason", " ").exit_code == 2

    hidden = absurd.manifest_path.rename(absurd.manifest_path.with_suffix(".hidden"))
    withdrawn = accept(on_server)
    assert (withdrawn.exit_code, "upstream has withdrawn" in withdrawn.log()[0]["message"]) == (2, True)
    away = absurd.root.rename(absurd.root.with_name("away"))
    unknown = accept(on_server)
    assert unknown.exit_code == 35, unknown.stderr
    away.rename(absurd.root)
    hidden.rename(absurd.manifest_path)

    absurd.delete_row("raw_clusters")
    changed = accept(on_server)
    assert (changed.exit_code, "upstream has published another manifest" in changed.log()[0]["message"]) == (2, True)
    elsewhere = Deployment(on_server.source, on_server.reader, tmp_path / "elsewhere", on_server.variables)
    new = elsewhere.run(absurd.snapshot)
    assert (new.exit_code, "raw_clusters has 8 rows" in new.errors()[1]["message"]) == (30, True)

    reader = on_server.reader
    assert isinstance(reader, ServerReader)
    reader.server.http(f"TRUNCATE TABLE {reader.prefix}torus.raw_clusters_loads")
    lost = accept(on_server)
    assert (lost.exit_code, "raw_clusters is not there any more" in lost.log()[0]["message"]) == (2, True)
    assert elsewhere.run(absurd.snapshot).exit_code == 30

    (audits / "audits.toml").write_text('few_alerts.level = "warn"\nfew_clusters.level = "off"\n')
    warned = on_server.run(absurd.snapshot)
    assert warned.exit_code == 0, warned.stderr
    assert [event["level"] for event in warned.log() if "few_alerts warns" in event["message"]] == ["WARNING"]
    superseded = accept(on_server)
    assert (superseded.exit_code, "no audit holds it" in superseded.log()[0]["message"]) == (2, True)


def test_an_acceptance_outlives_the_command_that_is_killed(
    on_server: Deployment, bucket: Bucket, tmp_path: Path
) -> None:
    """Killed between its two INSERTs, before the publication: the next run, on any host, does not ask again.

    A rollback afterwards shows what was before, and stays.
    """
    good = bucket.snapshot()
    assert on_server.run(good.snapshot).exit_code == 0
    before = on_server.published(good.snapshot)
    absurd = held(on_server, bucket)
    loads = on_server.loads(absurd.snapshot)
    context = context_of(on_server)
    found = find_held(context, absurd.snapshot)
    assert isinstance(found, HeldSnapshot)
    rows = found.rows_accepting(chosen_audits(found, []), "killed", context.run_id)
    record_audits(context.warehouse("torus"), absurd.snapshot, rows)
    elsewhere = Deployment(on_server.source, on_server.reader, tmp_path / "elsewhere", on_server.variables)
    result = elsewhere.run(absurd.snapshot)
    assert result.exit_code == 0, result.stderr
    assert result.events("Audited snapshot") == result.events("Loaded table") == []
    now = on_server.published(absurd.snapshot)
    assert all(load_id in loads[table] for table, load_id in now.items())
    on_server.assert_readers_see(absurd)
    assert on_server.command("sot-ingest", "rollback", *selection(absurd.snapshot), "--yes").exit_code == 0
    assert on_server.published(absurd.snapshot) == before
    assert on_server.run(absurd.snapshot).events("Published snapshot") == []
    refused = accept(on_server)
    assert (refused.exit_code, "is superseded by publication" in refused.log()[0]["message"]) == (2, True)


def test_people_are_told_of_what_is_held_and_accepted(on_server: Deployment, bucket: Bucket) -> None:
    """A message that says held, one that says recovered; history, the plan and the report's data say the same."""
    with Receiver().running() as receiver:
        on_server.variables |= receiver.environment
        absurd = held(on_server, bucket)
        assert receiver.messages[-1]["title"] == "sot-ingest held: torus 2025-08-01"
        assert "loaded, and held by an audit" in receiver.messages[-1]["message"]
        (plan,) = json.loads(on_server.command("sot-ingest", "plan", *DAY, "--json").stdout)
        assert [step["step"] for step in plan["steps"]] == ["AuditSnapshot", "PublishSnapshot", "CleanUp"]
        assert plan["steps"][0]["reason"] == "held by few_alerts, few_clusters"
        report = json.loads(on_server.command("sot-ingest", "report", "--days", "3660", "--json").stdout)
        (day,) = [each for each in report if each["processing_date"] == "2025-08-01"]
        assert (day["state"], day["error"].startswith("held by few_alerts")) == ("held", True)
        (history,) = json.loads(on_server.command("sot-ingest", "history", *DAY, "--json").stdout)
        assert [attempt["outcome"] for attempt in history["attempts"]] == ["held"]
        assert accept(on_server).exit_code == 0
        assert receiver.messages[-1]["title"] == "sot-ingest recovered: torus 2025-08-01"
        (history,) = json.loads(on_server.command("sot-ingest", "history", *DAY, "--json").stdout)
        assert [attempt["outcome"] for attempt in history["attempts"]] == ["published", "held"]
        on_server.assert_readers_see(absurd)


def test_a_mistake_in_an_audit_is_the_configurations(on_server: Deployment, bucket: Bucket, audits: Path) -> None:
    """Of run and doctor, exit 2, all at once; nothing is started, also for what ClickHouse alone can tell."""
    files = bucket.snapshot()
    (audits / "few_alerts.sql").write_text(FEW.format(name="alerts").replace("rows < least", "rose < least"))
    (audits / "few_clusters.sql").write_text(FEW.format(name="clusters").replace("{table} has", "{stable} has"))
    result = on_server.run(files.snapshot)
    assert result.exit_code == 2
    lines = [event["message"] for event in result.log() if event["level"] == "ERROR"]
    assert [("few_alerts.sql" in line, "few_clusters.sql" in line) for line in lines[:2]] == [
        (True, False),
        (False, True),
    ]
    assert on_server.work_files() == {}
    doctor = json.loads(on_server.command("sot-ingest", "doctor", "--json").stdout)
    failed = [finding for finding in doctor["findings"] if finding["state"] == "failed"]
    assert [finding["check"] for finding in failed] == ["audits", "audits"]

    (audits / "audits.toml").write_text("[few]\nlevel = 'off'\n")
    (audits / "few_alerts.sql").write_text("SELECT 1")
    result = on_server.run(files.snapshot)
    assert result.exit_code == 2
    lines = [event["message"] for event in result.log() if event["level"] == "ERROR"]
    assert any("there is no audit few " in line for line in lines)
    assert (sum("few_alerts.sql" in line for line in lines), sum("few_clusters.sql" in line for line in lines)) == (
        3,
        1,
    )
