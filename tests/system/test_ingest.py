"""The whole graph, on real snapshots: from S3 into a server, and from a directory into embedded ClickHouse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deployment import Deployment, EmbeddedReader, Reader, ServerReader, a_day, in_bucket, in_directory
from tests.support.s3 import Bucket
from tests.support.snapshots import SnapshotFiles

pytestmark = pytest.mark.usefixtures("audited")


@pytest.fixture
def deployment(reader: Reader, samples: Path, bucket: Bucket, tmp_path: Path) -> Deployment:
    """Both warehouses, each with a source of its own that holds the samples; test_upstream has the other pairs."""
    if isinstance(reader, EmbeddedReader):
        return Deployment(in_directory(samples), reader, tmp_path / "run")
    bucket.upload(samples)
    return Deployment(in_bucket(bucket.name, bucket.endpoint), reader, tmp_path / "run")


def test_every_cell_of_the_samples_arrives(deployment: Deployment, samples: Path) -> None:
    """Three networks, on a server two dates: the views show what an independent reader finds in the files."""
    days = ("2025-08-01", "2025-08-02") if isinstance(deployment.reader, ServerReader) else ("2025-08-01",)
    for day in days:
        result = deployment.command("sot-ingest", "run", "--date", day, "--scheduler", "local")
        assert result.exit_code == 0, result.stderr
    for network in ("ethereum", "bitcoin", "torus"):
        for day in days:
            deployment.assert_readers_see(SnapshotFiles(samples, a_day(day, network)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--network", "torus", "--processing-date", "2025-13-01"], "--processing-date"),
        (["--network", "BAD!", "--processing-date", "2025-08-01"], "--network"),
        (["--processing-date", "2025-08-01"], "--network"),
        (["--network", "torus", "--window-days", "0"], "--window-days"),
    ],
)
def test_a_wrong_luigi_parameter_is_said_on_one_line(
    arguments: list[str], said: str, samples: Path, tmp_path: Path
) -> None:
    """``luigi`` itself would print a traceback and exit 40."""
    deployment = Deployment(in_directory(samples), EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run")
    result = deployment.command(
        "luigi", "--module", "pipeline.tasks", "IngestSnapshot", *arguments, "--local-scheduler"
    )
    assert result.exit_code == 2
    error, end = result.log()
    assert said in error["message"]
    assert end["exit_code"] == 2
