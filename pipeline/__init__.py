"""Loads verified daily snapshots into ClickHouse, all tables of a snapshot visible at one instant.

The flow, one luigi task a line; each leaves a proof, and a rerun does only what has none:

    FindSnapshot        META.json and the files that it lists are at the source
    DownloadManifest    META.json on disk
    ValidateManifest    it describes what was asked for
    DownloadFile ×4     one file each, hashed while it is written
    ValidateFile ×4     Parquet, columns, rows
    ValidateChecksum ×4 SHA-256 of the file on disk, read again in a later run
    LoadTable ×4        rows under a new load_id, counted and compared, invisible to readers
    AuditSnapshot       what is loaded, compared with what is usual; an audit may hold it
    PublishSnapshot     one single-row INSERT: readers see all tables
    CleanUp             work files gone

Each file goes its way by itself, the features first; AuditSnapshot needs them all. With the SOT ClickHouse as the
source there is no META.json before its tables are in files, so two more steps come after FindSnapshot, which asks there
whether all tables have rows that do not change any more:

    ExportTable ×4      one table in a file of the bucket's layout, two tables at a time
    WriteManifest       META.json, unless rows changed meanwhile

A walk from the command to the publication, to read file by file; each is used by one above it:

    cli/__init__.py          the verbs of sot-ingest, each imported when it is called
    cli/run.py               its options become snapshots
    runs/ingest.py           locks them, waits for those that are late, asks luigi for IngestDaily
    runs/lifecycle.py        the start and the end of any run: exit code, last line, messages, metrics
    runs/process.py          luigi in this process, with luigid or without
    runs/worker.py           luigi's worker: it locks and claims a snapshot, then runs the steps
    tasks.py                 the graph: what each step needs, what proves it, the call that does it
    graph/base.py            what all steps have in common: attempts, errors, records
    graph/targets.py         is a step done? one class a proof
    graph/context.py         what a run works with: settings, source, warehouses
    graph/steps.py           what each step does, without luigi
    sources/__init__.py      what a source can be asked
    sources/s3.py            one of three sources
    sources/download.py      a file, hashed while it is written
    manifest.py              META.json, parsed and checked
    files/workspace.py       files and proofs on disk
    files/checks.py          a Parquet file's columns and rows
    files/conversion.py      from a file's types to a column's: exact, or refused
    graph/auditing.py        what audits find, judged and recorded
    warehouse/schema.py      tables and views, created or compared
    warehouse/load.py        rows under a new load_id
    warehouse/compare.py     the rows stored, counted and compared with the file's
    warehouse/ledger.py      sot_table_loads
    warehouse/server.py      statements to a ClickHouse server
    warehouse/publish.py     sot_publications: what readers see from now on

The work directory (``WORK_PATH``), empty when nothing is half done:

    {network}/{processing_date}/{window_days}/
        META.json
        raw_alerts.parquet  raw_features.parquet  raw_clusters.parquet  raw_address_labels.parquet
        proofs/
            download-manifest.json    newest-manifest.json      validate-manifest.json
            download-raw_alerts.json  validate-file-raw_alerts.json  validate-checksum-raw_alerts.json  …
    export/     what was read from the SOT ClickHouse, in the bucket's layout; links to it take the files' place above
    runs/       {start}-{run_id}.jsonl, what the steps of a run did; gone when sot_steps has it
    found/      what check and verify found last
    locks/

    sot-ingest run --date 2025-08-01 --network torus --scheduler local

The same from Python: :func:`ingest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from pipeline.graph.luigid import Scheduler
    from pipeline.runs.outcome import Outcome


def ingest(
    network: str,
    processing_date: date,
    window_days: int | None = None,
    *,
    workers: int | None = None,
    scheduler: Scheduler = "auto",
    wait: float = 0,
) -> Outcome:
    """Ingest one snapshot as ``sot-ingest run`` does, in a process of its own, and return how that ended.

    The settings are the environment's, read at each call; ``window_days`` is what they say by default, ``wait`` the
    seconds to wait for a snapshot that is not at the source. The log goes to standard error. ``outcome.exit_code`` is
    the command's: 0 when the snapshot is published, 20 when there is none. ``outcome.troubles`` are the steps that were
    not done, each with its error and hint; ``outcome.published`` is empty when nothing was left to do.

    Raises ConfigError when the settings are wrong, and RequestError for a network that is not configured or a day that
    has not begun: nothing was started. Raises PipelineError when the process was killed.
    """
    from pipeline.runs import own_process  # noqa: PLC0415  # luigi, drivers and all: not for whoever imports a word

    return own_process.ingest(network, processing_date, window_days, workers=workers, scheduler=scheduler, wait=wait)
