"""``verify --deep``: the files once more from the source, every row of them compared with the published ones.

A file is loaded under a load_id that no publication names and no run takes for a proof, compared, and dropped. What
is left when it is killed is a load to be collected, and a directory that the next one clears.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.errors import FileError, WarehouseError
from pipeline.files.atomic import locked, remove_directory
from pipeline.graph import steps
from pipeline.graph.context import Context
from pipeline.operations.findings import Finding, rerun_command
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME, Table
from pipeline.warehouse import Warehouse
from pipeline.warehouse.compare import differences
from pipeline.warehouse.ledger import RecordedLoad, count_rows
from pipeline.warehouse.load import ProvenFile, temporary_load
from pipeline.warehouse.publications import Publication


def compare_files(
    context: Context, snapshot: Snapshot, publication: Publication, loads: Mapping[str, RecordedLoad]
) -> Iterator[Finding]:
    """Yield how the published rows differ from those of the files; what cannot be compared is a finding, too.

    Raises SourceError and WarehouseError.
    """
    warehouse = context.warehouse(snapshot.network)
    with _elsewhere(context, publication) as ours:
        if not ours.source.wait_until_ready(snapshot):
            return
        if ours.sot:
            steps.write_manifest(ours, snapshot, lambda *_: None)
        steps.download_manifest(ours, snapshot)
        manifest = steps.manifest_on_disk(ours.workspace(snapshot))
        if not publication.is_of(manifest.uri, manifest.sha256):
            shown = f"another manifest: {manifest.uri}"
            hint = "the files that were published are not at the source any more"
            yield Finding("not compared", shown, publication.source, hint, is_fault=False)
            return
        for table in ours.settings.tables:
            load = loads.get(publication.load_ids[table.name])
            if load is not None:
                yield from _of_file(ours, warehouse, snapshot, table, load)


@contextmanager
def _elsewhere(context: Context, publication: Publication) -> Iterator[Context]:
    """Yield a context with a work directory of its own, which is empty before and gone after.

    It is about the tables of the publication, whichever are ingested now.
    """
    path = context.settings.work_path.absolute() / ".verify"
    with locked(path.with_suffix(".lock")):
        remove_directory(path, below=path.parent)
        try:
            tables = tuple(name for name in publication.load_ids if name in BY_NAME)
            yield Context(context.settings.model_copy(update={"work_path": path, "table_names": tables}))
        finally:
            remove_directory(path, below=path.parent)


def _of_file(
    context: Context, warehouse: Warehouse, snapshot: Snapshot, table: Table, load: RecordedLoad
) -> Iterator[Finding]:
    """Fetch a table's file and compare it."""
    about: dict[str, Any] = {"table": table.name, "load_id": load.load_id}
    try:
        steps.download_file(context, snapshot, table, lambda *_: None)
    except FileError as error:
        yield Finding("file", str(error), f"the file with SHA-256 {load.file_sha256[:12]}", error.hint, **about)
        return
    file = steps.proven_file(context.workspace(snapshot), table)
    if file.sha256 != load.file_sha256 and file.content_digest != load.content_digest:
        shown = f"labels of {file.superseded_by}: {file.sha256[:12]}" if file.superseded_by else file.sha256[:12]
        hint = "the file that was published is not at the source any more"
        yield Finding("not compared", shown, load.file_sha256[:12], hint, **about, is_fault=False)
    else:
        yield from _of_rows(warehouse, snapshot, file, load)
    context.workspace(snapshot).discard_file(table)


def _of_rows(warehouse: Warehouse, snapshot: Snapshot, file: ProvenFile, load: RecordedLoad) -> Iterator[Finding]:
    """Compare every row. Raises WarehouseError when ours were taken away meanwhile."""
    with temporary_load(warehouse, snapshot, file) as load_id:
        published, ours, keys = differences(warehouse, snapshot, file.table, load.load_id, load_id)
        if count_rows(warehouse, snapshot, [(file.table.name, load_id)]) != [file.footer.rows]:
            raise WarehouseError(
                f"{file.table.loads}: load {load_id} was removed while it was compared", hint="verify again"
            )
    if published or ours:
        yield Finding(
            "rows of the file",
            f"{published:,} rows that the file does not have, without {ours:,} that it has; keys: {', '.join(keys)}",
            f"the {file.footer.rows:,} rows of {file.name}",
            rerun_command(snapshot, file.table.name),
            table=file.table.name,
            load_id=load.load_id,
        )
