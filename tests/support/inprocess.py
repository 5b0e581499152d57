"""A deployment in the test's own process, without luigi: for what is not about processes."""

from __future__ import annotations

from pathlib import Path

from pipeline import steps
from pipeline.context import Context
from pipeline.settings import Settings
from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES
from tests.support.deployment import Deployment, Reader, in_directory


def in_process(bucket: Path, reader: Reader, directory: Path, **variables: str) -> tuple[Deployment, Context]:
    """Return a deployment with one network, and the same as a context."""
    deployment = Deployment(in_directory(bucket), reader, directory, {"INGESTION_NETWORKS": "torus", **variables})
    environment = deployment.environment
    aliases = {field.alias for field in Settings.model_fields.values()}
    given = {name: value for name, value in environment.items() if name in aliases}
    database = {"torus": {"database": environment["TORUS_CLICKHOUSE_DATABASE"]}}
    return deployment, Context(Settings.model_validate({**given, "overrides": database}))


def ingest(context: Context, snapshot: Snapshot) -> None:
    """Do every step of a snapshot, in order."""
    steps.download_manifest(context, snapshot, lambda *_: None)
    steps.validate_manifest(context, snapshot)
    for table in TABLES:
        steps.download_file(context, snapshot, table, lambda *_: None)
        steps.validate_file(context, snapshot, table)
        steps.validate_checksum(context, snapshot, table, lambda *_: None)
        steps.load_table(context, snapshot, table, lambda *_: None)
    steps.publish_snapshot(context, snapshot)
    steps.clean_up(context, snapshot)
