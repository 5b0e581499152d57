"""Compare what readers see with what was recorded when it was loaded, and with the manifest at the source.

Writes nothing. What is found is reported, one finding for each thing that is not as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from pipeline.graph.auditing import hint_to_accept
from pipeline.graph.context import Context
from pipeline.operations.findings import Finding, command_for, rerun_command
from pipeline.operations.replicas import HostBehind, hosts_behind
from pipeline.operations.verify_files import compare_files
from pipeline.snapshot import Snapshot
from pipeline.sources import Source
from pipeline.tables import BY_NAME, TABLES, Table
from pipeline.warehouse import MissingTableError, Warehouse
from pipeline.warehouse.audit_log import AuditRow, is_held, newest_verdicts
from pipeline.warehouse.collect import require_all_publications
from pipeline.warehouse.compare import measure_load
from pipeline.warehouse.ledger import RecordedLoad, recorded_loads
from pipeline.warehouse.publications import Publication, effective_publications, publications_by_date, publications_of
from pipeline.warehouse.schema import altered_views


@dataclass
class Verified:
    """What came of one snapshot."""

    snapshot: Snapshot
    publication: Publication
    findings: list[Finding] = field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        """What should be repaired."""
        return [finding for finding in self.findings if finding.is_fault]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            **self.snapshot.as_dict(),
            "publication_id": self.publication.publication_id,
            "rows": dict(self.publication.row_counts),
            "findings": [asdict(finding) for finding in self.findings],
        }


def verify_publications(
    context: Context, networks: Sequence[str], first: date, last: date, window_days: int, *, deep: bool = False
) -> Iterator[Verified]:
    """Yield what came of each published snapshot from ``first`` to ``last``, the oldest first.

    ``deep`` downloads the files again and compares every row. Raises SourceError and WarehouseError when there is no
    answer.
    """
    for network in networks:
        warehouse = context.warehouse(network)
        require_all_publications(warehouse, network)
        behind = hosts_behind(warehouse, network, first, last, window_days)
        for day, past in publications_by_date(warehouse, first, last, window_days).items():
            if past[-1].action == "retire":
                continue  # readers see nothing, as they should
            snapshot = Snapshot(network, day, window_days)
            found = _of_snapshot(context, snapshot, past, deep=deep)
            now = publications_of(warehouse, snapshot) if found.faults else past
            if now and len(now) != len(past):  # what readers see changed under our eyes
                found = _of_snapshot(context, snapshot, now, deep=deep)
            found.findings += map(_of_host, behind.get(day, ()))
            yield found


def _of_host(behind: HostBehind) -> Finding:
    """Return that readers of one replica do not see what those of another do."""
    hint = "sot-ingest doctor says what the host lacks; it shows the newest as soon as it has all of it"
    return Finding("replica", str(behind), f"the publication {behind.newest.publication_id}", hint)


def _of_snapshot(context: Context, snapshot: Snapshot, past: Sequence[Publication], *, deep: bool) -> Verified:
    """Look at what readers see of one snapshot."""
    warehouse, found = context.warehouse(snapshot.network), Verified(snapshot, past[-1])
    loads = recorded_loads(warehouse, snapshot)
    found.findings += _of_publication(warehouse, found, loads, context.settings.table_names)
    found.findings += _of_source(context, snapshot, past)
    if deep:
        found.findings += compare_files(context, snapshot, found.publication, loads)
    return found


def _of_publication(
    warehouse: Warehouse, found: Verified, loads: Mapping[str, RecordedLoad], ingested: Sequence[str]
) -> Iterator[Finding]:
    """Look at the publication's row, then at each table's load."""
    publication = found.publication
    wanted, named = set(ingested), publication.load_ids.keys() | publication.row_counts.keys()
    names = wanted if not publication.covers(ingested) else named & BY_NAME.keys() or wanted
    for what, tables in (("load_ids", publication.load_ids), ("row_counts", publication.row_counts)):
        if tables.keys() != names:
            yield Finding(
                "publication",
                f"{what} has {', '.join(sorted(tables)) or 'nothing'}",
                ", ".join(sorted(names)),
                f"readers do not see all tables of INGESTION_TABLES: {_rollback_or_rerun(found.snapshot)}",
            )
    altered = altered_views(warehouse)
    for table in TABLES:
        load_id = publication.load_ids.get(table.name)
        if load_id:
            yield from _of_load(warehouse, found, table, loads.get(load_id), is_seen=table.name not in altered)
        if table.name in altered:
            hint = f"DROP VIEW {warehouse.database}.{table.name}, then {rerun_command(found.snapshot, table.name)}"
            yield Finding("view", "another query", "the one that this version makes", hint, table.name, load_id or "")


def _of_load(
    warehouse: Warehouse, found: Verified, table: Table, load: RecordedLoad | None, *, is_seen: bool
) -> Iterator[Finding]:
    """Compare a load with the ledger, its rows with both, and what our view, if it is seen, shows with that."""
    snapshot, load_id = found.snapshot, found.publication.load_ids[table.name]
    about: dict[str, Any] = {"table": table.name, "load_id": load_id}
    rows = found.publication.row_counts.get(table.name, 0)
    if load is None or load.table_name != table.name or not load.was_loaded:
        state = "no such load" if load is None else f"a load of {load.table_name}, {load.state}"
        hint = f"readers see rows that were never counted, or none: {_rollback_or_rerun(snapshot)}"
        yield Finding("ledger", state, f"a load of {table.name}, loaded", hint, **about)
        return
    if load.row_count != rows:
        hint = f"the publication's row or the ledger was changed: {rerun_command(snapshot, table.name)}"
        yield Finding("publication", f"{rows:,} rows published", f"{load.row_count:,} rows loaded", hint, **about)
    difference = _difference(warehouse, snapshot, table, load)
    if difference is None and is_seen:
        difference = _of_view(warehouse, snapshot, table, load.row_count)
    if difference is not None:
        kind, shown, expected = difference
        yield Finding(kind, shown, expected, rerun_command(snapshot, table.name), **about)


def _difference(
    warehouse: Warehouse, snapshot: Snapshot, table: Table, load: RecordedLoad
) -> tuple[str, str, str] | None:
    """Return how a load's rows differ from the recorded ones: kind, found, expected."""
    try:
        rows, keys, digest = measure_load(warehouse, snapshot, table, load.load_id)
    except MissingTableError:
        return "rows", f"there is no table {table.loads}", f"{load.row_count:,} rows"
    if rows != load.row_count:
        twice = f", {rows - keys:,} of them with a key that stands twice" if rows != keys else ""
        shown = f"{rows:,} rows{twice}" if rows else "no rows: the partition is not there"
        return "rows", shown, f"{load.row_count:,} rows"
    return ("content", f"digest {digest}", f"digest {load.content_digest}") if digest != load.content_digest else None


def _of_view(warehouse: Warehouse, snapshot: Snapshot, table: Table, rows: int) -> tuple[str, str, str] | None:
    """Return how many rows readers see when it is another number."""
    try:
        ((seen,),) = warehouse.query(
            f"""
            SELECT count()
            FROM {{database}}.{table.name}
            WHERE processing_date = {{processing_date:Date}} AND window_days = {{window_days:UInt16}}
            """,
            processing_date=snapshot.processing_date.isoformat(),
            window_days=snapshot.window_days,
        )
    except MissingTableError:
        return "view", f"there is no view {table.name}", f"{rows:,} rows"
    return ("view", f"{seen:,} rows seen", f"{rows:,} rows") if seen != rows else None


def _of_source(context: Context, snapshot: Snapshot, past: Sequence[Publication]) -> Iterator[Finding]:
    """Compare the manifest at the source with the one that was published."""
    seen, source = past[-1], context.source
    if not source.wait_until_ready(snapshot):
        hint = "nothing to do; the day could not be loaded again"
        yield Finding("gone upstream", f"no {source.absence(snapshot)[0]}", seen.source, hint, is_fault=False)
    elif not source.is_current(snapshot, {seen.source: seen.manifest_sha256}):
        effective = effective_publications(past, seen.load_ids)
        if source.is_current(snapshot, {other.source: other.manifest_sha256 for other in effective}):
            hint = f"it stays so until upstream publishes a new one, or {rerun_command(snapshot)}"
            yield Finding("rolled back", _newest_at(source, snapshot), seen.source, hint, is_fault=False)
        else:
            found, hint = _newest_at(source, snapshot), command_for("run", snapshot)
            if verdict := _hold_of_newest(context, snapshot, seen):
                found, hint = f"{found}, held by {verdict.message}", hint_to_accept(snapshot)
            yield Finding("superseded upstream", found, seen.source, hint)


def _hold_of_newest(context: Context, snapshot: Snapshot, seen: Publication) -> AuditRow | None:
    """Return the verdict that holds what is at the source, or None."""
    day = snapshot.processing_date
    verdict = newest_verdicts(context.warehouse(snapshot.network), snapshot.network, day, day).get(snapshot)
    if verdict is None or not is_held(verdict, seen.published_at):
        return None
    return verdict if context.source.is_current(snapshot, {verdict.source: verdict.manifest_sha256}) else None


def _newest_at(source: Source, snapshot: Snapshot) -> str:
    """Name the manifest at the source; the SOT ClickHouse has none of its own."""
    return source.manifest_uri(snapshot) or f"other rows at {source.uri}"


def _rollback_or_rerun(snapshot: Snapshot) -> str:
    return f"{command_for('rollback', snapshot)}, or {rerun_command(snapshot)}"


def count_rows(found: Sequence[Verified]) -> int:
    """Return the rows of all tables that were looked at."""
    return sum(rows for each in found for name, rows in each.publication.row_counts.items() if name in BY_NAME)
