"""What each step does, without luigi: one function a step, each returning the facts that its log event carries.

A step that finds bad data removes exactly the bad artefact and its proofs, so that the next try fetches it again. A
step that fails because a service is down removes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loguru import logger

from pipeline.errors import ConfigError, DataError, FileError, SourceUnavailableError, WarehouseError
from pipeline.files import checks, parquet
from pipeline.files.workspace import DownloadedFile, DownloadedManifest, Workspace
from pipeline.graph.context import Context
from pipeline.graph.retained import loads_of_files, retained_loads, rows_of_audits
from pipeline.snapshot import Snapshot
from pipeline.sources import Report, download
from pipeline.tables import AUDITS, BY_NAME, LEDGER, PUBLICATIONS, Table
from pipeline.warehouse import ledger
from pipeline.warehouse.audit_log import is_cleared
from pipeline.warehouse.load import ProvenFile, load_file
from pipeline.warehouse.publications import Publication
from pipeline.warehouse.publish import publish_loads
from pipeline.warehouse.replication import copy_to_hosts
from pipeline.warehouse.schema import ensure_schema

if TYPE_CHECKING:
    from pipeline.sources.sot import SotSource

Facts = dict[str, Any]

RUN_AGAIN = "run again: what is missing is fetched again"


def pin_manifest(context: Context, snapshot: Snapshot) -> None:
    """Note for all processes of the run that the manifest on disk is the one at the source: a run is about one.

    While the source does not answer, what is on disk counts. Raises SourceError, WorkDirectoryError.
    """
    workspace = context.workspace(snapshot)
    manifest = workspace.downloaded_manifest()
    if manifest is None or workspace.is_newest(manifest, context.run_id):
        return
    try:
        if context.source.manifest_uri(snapshot) != manifest.uri:
            return
    except SourceUnavailableError as error:
        logger.warning("Could not ask whether the manifest is still the newest: {}", error)
    workspace.keep_newest(manifest, context.run_id)


def export_table(context: Context, snapshot: Snapshot, table: Table, report: Report) -> Facts:
    """Write the rows of a table of the SOT ClickHouse into a file. Raises ConfigError, SourceError."""
    rows, size = _sot(context).export_table(snapshot, table, report)
    return {"rows": rows, "bytes": size}


def write_manifest(context: Context, snapshot: Snapshot, report: Report) -> Facts:
    """Write META.json of the exported tables. Raises ConfigError, SourceError.

    A table whose file is not there is exported first: the last try threw it away, for its rows had changed.
    """
    sot = _sot(context)
    for table in sot.tables:
        if not sot.is_exported(snapshot, table):
            sot.export_table(snapshot, table, report)
    context.workspace(snapshot).discard_manifest()  # of the same rows it has the same URI, but lists files of before
    return {"rows": sot.write_manifest(snapshot)}


def _sot(context: Context) -> SotSource:
    if context.sot is None:
        raise ConfigError("only the tables of a SOT ClickHouse are exported", hint="set SOT_HOST and SOT_USER")
    return context.sot


def download_manifest(context: Context, snapshot: Snapshot) -> Facts:
    """Store META.json. Raises SourceError."""
    text = context.source.read_manifest(snapshot)
    if text is None:
        raise SourceUnavailableError(
            f"{snapshot.manifest_key}: gone from {context.source.uri} since it was found",
            hint="upstream may be publishing right now: run again",
        )
    workspace = context.workspace(snapshot)
    manifest = workspace.keep_manifest(text.data, text.uri)
    workspace.keep_newest(manifest, context.run_id)
    return {"bytes": len(text.data), "manifest_sha256": manifest.sha256, "source": text.uri}


def validate_manifest(context: Context, snapshot: Snapshot) -> Facts:
    """Parse META.json and compare it with what was asked for. Raises ManifestError."""
    workspace = context.workspace(snapshot)
    try:
        manifest = workspace.manifest()
    except DataError:
        workspace.discard_manifest()
        raise
    workspace.keep_manifest_valid()
    return {"files": len(manifest.files), "generated_at": manifest.generated_at}


def download_file(context: Context, snapshot: Snapshot, table: Table, report: Report) -> Facts:
    """Fetch one file and prove that it is the one that the manifest lists. Raises FileError, SourceError."""
    workspace = context.workspace(snapshot)
    manifest = workspace.manifest()
    path = workspace.file_path(table)
    try:
        sha256, superseded_by = download.fetch(context.source, snapshot, manifest, table, path, report)
    except FileError:
        context.source.discard(snapshot, table)
        raise
    listed = manifest.files[table.name].digest
    file = workspace.keep_file(table, listed=listed, sha256=sha256, superseded_by=superseded_by, run_id=context.run_id)
    facts: Facts = {"file": manifest.files[table.name].name, "bytes": file.bytes, "sha256": sha256}
    if superseded_by:
        facts["superseded_by"] = superseded_by
    if manifest.files[table.name].algorithm == "md5":
        facts["proven_by"] = "md5"
    return facts


def validate_file(context: Context, snapshot: Snapshot, table: Table) -> Facts:
    """Look into one file: size, columns, rows. Raises FileError, SchemaError, RowCountError, …"""
    workspace, ignore_extra = context.workspace(snapshot), context.settings.ignore_extra_columns
    entry, path = workspace.manifest().files[table.name], workspace.file_path(table)
    is_as_listed = not downloaded(workspace, table).superseded_by
    with discarding(context, snapshot, table):
        if is_as_listed:
            checks.check_size(path, entry)
        footer = parquet.read_footer(path, entry.name)
        checks.check_columns(footer, table, entry.name, ignore_extra=ignore_extra)
        if is_as_listed:
            checks.check_rows(footer.rows, table, entry)
        checks.check_lists(path, table, entry.name)
    workspace.keep_file_valid("validate-file", table)
    return {"file": entry.name, "rows": footer.rows}


def validate_checksum(context: Context, snapshot: Snapshot, table: Table, report: Report) -> Facts:
    """Prove that the bytes on disk are those that came, before any of them is loaded. Raises FileError.

    A file that an earlier run left is read and hashed. One that this run wrote would come from memory: that it has not
    been touched is known by size and time, and its bytes are hashed once more when they are sent, see load_table.
    """
    workspace = context.workspace(snapshot)
    name, file = workspace.manifest().files[table.name].name, downloaded(workspace, table)
    read = 0

    def add(count: int) -> None:
        nonlocal read
        read += count
        report(read, file.bytes)

    if not workspace.is_of_run(table, context.run_id):
        with discarding(context, snapshot, table):
            checks.check_sha256(workspace.file_path(table), name, file.sha256, add)
    workspace.keep_file_valid("validate-checksum", table)
    return {"file": name, "bytes": file.bytes, "sha256": file.sha256}


def prepare_tables(context: Context, network: str) -> None:
    """Create the network's tables, or compare their shape; once a run. Raises WarehouseError."""
    if network not in context.prepared:
        ensure_schema(context.warehouse(network))
        context.prepared.add(network)


def load_table(context: Context, snapshot: Snapshot, table: Table, report: Report) -> Facts:
    """Load one file under a new load_id and prove that all rows arrived. Raises DataError, WarehouseError.

    Its bytes are hashed while they are sent: no other bytes than those that were proven become rows that count.
    """
    workspace, warehouse = context.workspace(snapshot), context.warehouse(snapshot.network)
    prepare_tables(context, snapshot.network)
    file = proven_file(workspace, table)
    context.source.confirm(snapshot, table, file.content_digest)
    try:
        entry = load_file(warehouse, snapshot, file, _rows_told(file, report))
    except FileError:
        discard_file(context, snapshot, table)
        raise
    except WarehouseError:
        context.prepared.discard(snapshot.network)  # the next try looks whether the tables are still there
        raise
    except DataError:
        context.source.discard(snapshot, table)  # upstream may mend a value so that its digest stays as it was
        raise
    copy_to_hosts(warehouse, table.loads, LEDGER)
    return {
        "rows": entry.row_count,
        "bytes": file.bytes,
        "load_id": entry.load_id,
        "content_digest": entry.content_digest,
    }


def _rows_told(file: ProvenFile, report: Report) -> Callable[[int], None]:
    """Return what takes bytes as they are sent, and reports them with the rows that they stand for."""
    sent = 0

    def add(count: int) -> None:
        nonlocal sent
        sent += count
        done, rows = min(sent, file.bytes), file.footer.rows
        if done < file.bytes:
            report(done, file.bytes, f"{rows * done // file.bytes:,} of {rows:,} rows")
        else:
            report(done, file.bytes, f"counting {rows:,} rows")

    return add


def publish_snapshot(context: Context, snapshot: Snapshot) -> Facts:
    """Make readers see the loads of all tables, at one instant. Raises WarehouseError.

    When another run published the same manifest, or a newer one, it is theirs that readers see.
    """
    workspace, warehouse = context.workspace(snapshot), context.warehouse(snapshot.network)
    manifest = manifest_on_disk(workspace)
    context.answers.forget()  # what a publication rests on is read now
    loads = proven_loads(context, snapshot)
    if not is_cleared(rows_of_audits(context, snapshot), {name: load_id for name, (load_id, _) in loads.items()}):
        raise WarehouseError(f"{snapshot}: its loads have not passed the audits", hint="run again: they are audited")
    publication = publish_loads(
        warehouse,
        snapshot,
        manifest_sha256=manifest.sha256,
        source=manifest.uri,
        loads=loads,
        run_id=context.run_id,
        is_upstreams=lambda uri, sha256: is_upstreams(context, snapshot, uri, sha256),
        past=context.publications(snapshot),
    )
    copy_to_hosts(warehouse, PUBLICATIONS, LEDGER, AUDITS)
    if not publication.is_of(manifest.uri, manifest.sha256):
        workspace.discard_manifest()
    return publication_facts(context, publication)


def publication_facts(context: Context, publication: Publication) -> Facts:
    """Return what the log says of a publication."""
    return {
        **({} if publication.run_id == context.run_id else {"by_another_run": True}),
        "publication_id": publication.publication_id,
        "manifest_sha256": publication.manifest_sha256,
        "published_at": publication.published_at.isoformat(),
        **publication.row_counts,
    }


def is_upstreams(context: Context, snapshot: Snapshot, uri: str, sha256: str) -> bool:
    """Tell whether a manifest is the one at the source; while the source does not answer it is not."""
    try:
        return context.source.is_ready(snapshot) and context.source.is_current(snapshot, {uri: sha256})
    except SourceUnavailableError:
        return False


def clean_up(context: Context, snapshot: Snapshot) -> Facts:
    """Remove the work files of a published snapshot."""
    workspace = context.workspace(snapshot)
    size = workspace.bytes
    context.source.discard(snapshot)
    workspace.discard()
    return {"bytes": size}


def forget(context: Context, snapshot: Snapshot, tables: tuple[str, ...]) -> None:
    """Take back what is proven of these tables' files and loads, and of the manifest; readers see what they saw."""
    ledger.forget_loads(context.warehouse(snapshot.network), snapshot, tables)
    for table in tables:
        discard_file(context, snapshot, BY_NAME[table])
    context.workspace(snapshot).discard_manifest()


def proven_loads(context: Context, snapshot: Snapshot) -> dict[str, tuple[str, int]]:
    """Return load and row count of each table: of its published load, when that is retained, else of its file on disk.

    Raises FileError, RowCountError.
    """
    workspace = context.workspace(snapshot)
    manifest, entries = manifest_on_disk(workspace), workspace.manifest().files
    retained = retained_loads(context, snapshot, manifest.uri, manifest.sha256)
    files = {table: downloaded(workspace, table) for table in workspace.tables if table.name not in retained}
    found = loads_of_files(context, snapshot)
    for table, file in files.items():
        if table.name not in found:
            raise FileError(f"{table.name}: no proven load of its file", hint="run again: the table is loaded again")
        if not file.superseded_by:
            with discarding(context, snapshot, table):
                checks.check_size(workspace.file_path(table), entries[table.name])
                checks.check_rows(found[table.name][1], table, entries[table.name])
    return {**found, **retained}


@contextmanager
def discarding(context: Context, snapshot: Snapshot, table: Table) -> Iterator[None]:
    """Discard the table's file when the block finds that it is bad."""
    try:
        yield
    except DataError:
        discard_file(context, snapshot, table)
        raise


def discard_file(context: Context, snapshot: Snapshot, table: Table) -> None:
    """Remove a file that turned out bad here, and where the source keeps it for us: it is fetched again."""
    context.workspace(snapshot).discard_file(table)
    context.source.discard(snapshot, table)


def downloaded(workspace: Workspace, table: Table) -> DownloadedFile:
    """Return the table's file on disk. Raises FileError when it is not (any longer) there."""
    found = workspace.downloaded_file(table)
    if found is None:
        raise FileError(f"{workspace.file_path(table)}: missing, or changed since the download", hint=RUN_AGAIN)
    return found


def manifest_on_disk(workspace: Workspace) -> DownloadedManifest:
    """Return the manifest on disk. Raises FileError when it is not (any longer) there."""
    found = workspace.downloaded_manifest()
    if found is None:
        raise FileError(f"{workspace.manifest_path}: missing, or changed since the download", hint=RUN_AGAIN)
    return found


def proven_file(workspace: Workspace, table: Table) -> ProvenFile:
    """Return the table's file with all that was proven about it. Raises FileError."""
    manifest, file = manifest_on_disk(workspace), downloaded(workspace, table)
    entry, path = workspace.manifest().files[table.name], workspace.file_path(table)
    return ProvenFile(
        table=table,
        path=path,
        name=entry.name,
        sha256=file.sha256,
        bytes=file.bytes,
        footer=parquet.read_footer(path, entry.name),
        proof=entry.algorithm,
        superseded_by=file.superseded_by,
        manifest_sha256=manifest.sha256,
        source=manifest.uri,
        content_digest=entry.content_digest,
    )
