"""``sot-ingest rollback``: readers see an older publication again, and later runs leave it so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, Result, ServerReader, in_directory, selection
from tests.support.snapshots import Bucket, SnapshotFiles


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """A directory in the bucket's layout."""
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def deployment(clickhouse: ClickHouseServer, database_prefix: str, bucket: Bucket, tmp_path: Path) -> Deployment:
    """One network on the server."""
    reader = ServerReader(clickhouse, database_prefix)
    return Deployment(in_directory(bucket.root), reader, tmp_path / "run", {"INGESTION_NETWORKS": "torus"})


def publish(deployment: Deployment, bucket: Bucket, seed: int) -> tuple[SnapshotFiles, dict[str, Any]]:
    """Let upstream publish another version, run, and return the files and the publication."""
    files = bucket.snapshot(seed=seed)
    result = deployment.run(files.snapshot)
    assert result.exit_code == 0, result.stderr
    return files, deployment.publications(files.snapshot)[-1]


def roll_back(deployment: Deployment, files: SnapshotFiles, *options: str) -> Result:
    """Run the command."""
    return deployment.command("sot-ingest", "rollback", *selection(files.snapshot), "--yes", *options)


def state(deployment: Deployment) -> str:
    """Return what ``status`` says of the day."""
    result = deployment.command("sot-ingest", "status", "--date", "2025-08-01", "--days", "1", "--json")
    (day,) = json.loads(result.stdout)
    return str(day["state"])


def test_a_rollback_lasts_until_upstream_publishes_anew(deployment: Deployment, bucket: Bucket) -> None:
    """Readers see the older loads; a run does nothing; a new manifest is published; an old one by its id again.

    Without a terminal there is nobody to ask, and without ``--yes`` nothing is done. A rerun publishes anew, and
    forgets nothing when the snapshot is gone from the source.
    """
    files, first = publish(deployment, bucket, 1)
    files, second = publish(deployment, bucket, 2)
    unsaid = deployment.command("sot-ingest", "rollback", *selection(files.snapshot))
    assert (unsaid.exit_code, len(deployment.publications(files.snapshot))) == (2, 2)
    assert "say --yes" in unsaid.stderr
    assert [line.split()[-1] for line in unsaid.stdout.splitlines()] == ["seen", "now", "again"]
    result = roll_back(deployment, files, "--json")
    assert result.exit_code == 0, result.stderr
    newest = deployment.publications(files.snapshot)[-1]
    told = json.loads(result.stdout)
    assert (told["rolled_back_from"], told["rolled_back_to"]) == (publication_id(second), publication_id(first))
    assert told["publication_id"] == publication_id(newest)
    assert (newest["action"], newest["load_ids"]) == ("rollback", first["load_ids"])
    assert newest["manifest_sha256"] == first["manifest_sha256"]
    assert state(deployment) == "rolled back"

    before = deployment.written("torus")
    ordinary = deployment.run(files.snapshot)
    assert (ordinary.exit_code, ordinary.done) == (0, [])
    assert deployment.written("torus") == before

    files, third = publish(deployment, bucket, 3)
    assert state(deployment) == "published"
    deployment.assert_readers_see(files)
    assert roll_back(deployment, files, "--to", publication_id(second)).exit_code == 0
    assert deployment.published(files.snapshot) == second["load_ids"]
    assert deployment.run(files.snapshot).done == []

    assert deployment.rerun(files.snapshot).exit_code == 0
    assert not set(deployment.published(files.snapshot).values()) & set(third["load_ids"].values())
    deployment.assert_readers_see(files)
    assert deployment.run(files.snapshot).done == []

    files.manifest_path.unlink()
    before = deployment.written("torus")
    nothing = deployment.rerun(files.snapshot)
    assert nothing.exit_code == 20
    assert "nothing was forgotten" in nothing.log()[-1]["hint"]
    assert deployment.written("torus") == before


def publication_id(publication: dict[str, Any]) -> str:
    """Return the id as text."""
    return str(publication["publication_id"])
