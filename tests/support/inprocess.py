"""A deployment in the test's own process, without luigi: for what is not about processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.graph import auditing, steps
from pipeline.graph.context import Context
from pipeline.settings import Settings
from pipeline.snapshot import Snapshot
from tests.support.deployment import Deployment, Reader, in_directory


def in_process(bucket: Path, reader: Reader, directory: Path, **variables: str) -> tuple[Deployment, Context]:
    """Return a deployment with one network, and the same as a context."""
    deployment = Deployment(in_directory(bucket), reader, directory, {"INGESTION_NETWORKS": "torus", **variables})
    environment = deployment.environment
    aliases = {field.alias for field in Settings.model_fields.values()}
    given = {name: value for name, value in environment.items() if name in aliases}
    database = environment.get("TORUS_CLICKHOUSE_DATABASE")  # an embedded warehouse's are named after their networks
    overrides = {"torus": {"database": database}} if database else {}
    return deployment, Context(Settings.model_validate({**given, "overrides": overrides}))


def ingest(context: Context, snapshot: Snapshot) -> None:
    """Do every step of a snapshot, in order."""
    for _, _, step in steps_in_order(context, snapshot):
        step()


def refused(context: Context, snapshot: Snapshot) -> tuple[str, str | None, PipelineError]:
    """Do the steps of a snapshot up to the one that fails; return that step, its table and the error."""
    for name, table, step in steps_in_order(context, snapshot):
        try:
            step()
        except PipelineError as error:
            return name, table, error
    raise AssertionError(f"{snapshot} was not refused")


def steps_in_order(context: Context, snapshot: Snapshot) -> Iterator[tuple[str, str | None, Callable[[], object]]]:
    """Yield the steps by the names of their tasks, each with its table if it is one for a table."""
    yield "DownloadManifest", None, lambda: steps.download_manifest(context, snapshot)
    yield "ValidateManifest", None, lambda: steps.validate_manifest(context, snapshot)
    for table in context.settings.tables:
        of_table = (context, snapshot, table)
        yield "DownloadFile", table.name, partial(steps.download_file, *of_table, lambda *_: None)
        yield "ValidateFile", table.name, partial(steps.validate_file, *of_table)
        yield "ValidateChecksum", table.name, partial(steps.validate_checksum, *of_table, lambda *_: None)
        yield "LoadTable", table.name, partial(steps.load_table, *of_table, lambda *_: None)
    yield "AuditSnapshot", None, lambda: auditing.audit_snapshot(context, snapshot)
    yield "PublishSnapshot", None, lambda: steps.publish_snapshot(context, snapshot)
    yield "CleanUp", None, lambda: steps.clean_up(context, snapshot)
