"""``sot-ingest rollback``: readers see an older publication again, and later runs leave it so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph.context import Context
from pipeline.tables import CLAIMS
from tests.support.deployment import Deployment, Result, ServerReader, selection
from tests.support.inprocess import in_process, ingest
from tests.support.snapshots import Bucket, SnapshotFiles


@dataclass
class Published:
    """A deployment, and what upstream publishes for it."""

    bucket: Bucket
    deployment: Deployment
    context: Context

    def version(self, seed: int) -> tuple[SnapshotFiles, dict[str, Any]]:
        """Let upstream publish another version, ingest it, and return the files and the publication."""
        files = self.bucket.snapshot(seed=seed)
        ingest(self.context, files.snapshot)
        return files, self.deployment.publications(files.snapshot)[-1]


@pytest.fixture
def published(server_reader: ServerReader, tmp_path: Path) -> Published:
    """One network on the server."""
    return Published(Bucket(tmp_path / "bucket"), *in_process(tmp_path / "bucket", server_reader, tmp_path / "run"))


def roll_back(deployment: Deployment, files: SnapshotFiles, *options: str) -> Result:
    """Run the command."""
    return deployment.command("sot-ingest", "rollback", *selection(files.snapshot), "--yes", *options)


def state(deployment: Deployment) -> str:
    """Return what ``status`` says of the day."""
    result = deployment.command("sot-ingest", "status", "--date", "2025-08-01", "--days", "1", "--json")
    (day,) = json.loads(result.stdout)
    return str(day["state"])


def test_a_rollback_lasts_until_upstream_publishes_again(published: Published) -> None:
    """Readers see the older loads; a run does nothing; a new manifest is published; an old one by its id again.

    Without a terminal there is nobody to ask, and without ``--yes`` nothing is done. A rerun publishes again, and
    forgets nothing when the snapshot is gone from the source.
    """
    deployment = published.deployment
    files, first = published.version(1)
    files, second = published.version(2)
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

    files, third = published.version(3)
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
    before = deployment.written("torus", but=CLAIMS)
    nothing = deployment.rerun(files.snapshot)
    assert nothing.exit_code == 20
    assert "nothing was forgotten" in nothing.log()[0]["hint"]
    assert deployment.written("torus", but=CLAIMS) == before


def publication_id(publication: dict[str, Any]) -> str:
    """Return the id as text."""
    return str(publication["publication_id"])
