"""Reports without a warehouse: days that were published, failed or missing, as the report's tests and pictures need."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pipeline.dates import day_end, last_days
from pipeline.operations.report.data import Report, state_when_missing
from pipeline.operations.report.days import ReportDay, compared, entry_of
from pipeline.operations.report.networks import NetworkReport
from pipeline.operations.status import Status
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME
from pipeline.warehouse.claims import Work
from pipeline.warehouse.publications import Action, Publication
from pipeline.warehouse.step_log import StepRecord, StepState
from pipeline.warehouse.storage import Disk, TableSize

LAST = date(2025, 8, 10)
NOW = datetime(2025, 8, 11, 7, tzinfo=UTC)
WINDOW = 195


def publication(snapshot: Snapshot, at: datetime, rows: int, action: Action = "publish") -> Publication:
    """Return a publication with so many rows in each table."""
    return Publication(
        processing_date=snapshot.processing_date,
        window_days=snapshot.window_days,
        publication_id="",
        action=action,
        manifest_sha256="5a" * 32,
        load_ids={},
        row_counts=dict.fromkeys(BY_NAME, rows),
        source="s3://bucket/META.json#1",
        published_at=at,
        published_by="host",
        run_id="run",
    )


def record(snapshot: Snapshot, step: str, state: StepState, at: datetime, error: str = "") -> StepRecord:
    """Return what a step left."""
    facts = {"generated_at": str(at - timedelta(minutes=20))} if step == "ValidateManifest" else {}
    return StepRecord(snapshot, step, "", state, at, 1.5, facts, error, error and "ask upstream", run_id="run")


def entry(
    day: date,
    rows: Sequence[int],
    *,
    network: str = "torus",
    failed: str = "",
    held: str = "",
    action: Action = "publish",
    ready: timedelta = timedelta(hours=1),
    missing: str = "missing",
) -> ReportDay:
    """Return a day that was published once for each count of rows, and after that failed, or was held by an audit."""
    snapshot = Snapshot(network, day, WINDOW)
    night = day_end(day) + ready
    seen = [publication(snapshot, night + timedelta(hours=after), count) for after, count in enumerate(rows)]
    if seen:
        seen[-1] = publication(snapshot, seen[-1].published_at, rows[-1], action)
    steps = ("ValidateManifest", "PublishSnapshot")
    records = [record(snapshot, step, "done", each.published_at) for each in seen for step in steps]
    if failed:
        records.append(record(snapshot, "DownloadFile", "failed", night + timedelta(hours=4), failed))
    if held:
        records.append(record(snapshot, "AuditSnapshot", "held", night + timedelta(hours=4), held))
    state = (
        "held"
        if held
        else {"publish": "published", "rollback": "rolled back", "retire": "retired"}[action]
        if seen
        else "missing"
    )
    status = Status(snapshot, state, None, seen[-1] if seen and state != "retired" else None)
    return entry_of(status, seen, records, missing=missing)


def network(days: Sequence[ReportDay], work: Sequence[Work] = ()) -> NetworkReport:
    """Return a network's report, of its days from the oldest on."""
    found = compared(days)
    newest = next((day.seen for day in reversed(found) if day.seen), None)
    sizes = [TableSize(f"{name}_loads", 10_000, 1_234_567) for name in BY_NAME] if newest else []
    return NetworkReport(days[0].snapshot.network, tuple(found), newest, tuple(sizes), tuple(work))


def report(*networks: NetworkReport, now: datetime = NOW) -> Report:
    """Return a report of networks, those in trouble first, as :func:`pipeline.operations.report.data.collect` does."""
    days = [day.snapshot.processing_date for day in networks[0].days]
    records = [day.failure for each in networks for day in each.days if day.failure]
    records.sort(key=lambda record: record.started_at)
    ordered = tuple(sorted(networks, key=lambda each: each.health(now).rank))
    disks = {"clickhouse://warehouse:9000": [Disk("default", 400_000_000_000, 1_000_000_000_000)]}
    return Report(now, days[0], days[-1], WINDOW, ordered, tuple(records), disks)


def sample(networks: int, days: int, *, last: date = LAST, now: datetime = NOW) -> Report:
    """Return a report of networks as they are: most in order, some that failed, are behind, have gaps, or are new."""
    names = ["ethereum", "bitcoin", "torus", *(f"network_{number}" for number in range(4, networks + 1))][:networks]
    return report(*(_sampled(place, name, last_days(days, last), now) for place, name in enumerate(names)), now=now)


def _sampled(place: int, name: str, wanted: Sequence[date], now: datetime) -> NetworkReport:
    chance = random.Random(name)  # noqa: S311  # no secret; the same every time
    newest, middle = wanted[-1], wanted[len(wanted) // 2]
    began = wanted[len(wanted) // 3 if place % 7 == 2 else 0]
    gaps = [(middle, 9)] * (place % 5 == 1) + [(newest - timedelta(days=2), 3)] * (place % 10 == 3)
    days = []
    for number, day in enumerate(wanted):
        rows = [round(250_000 * (1 + number / 400) * chance.uniform(0.97, 1.03))]
        ready = timedelta(minutes=chance.gauss(75, 9) + number / 10)
        failed = ""
        if chance.random() < 0.01:
            rows = [rows[0] // 20]
        elif chance.random() < 0.04:
            rows = [rows[0], rows[0] + 7]
        if day == newest and place % 8 == 2:
            failed = f"snapshots/{name}/{day}/195/raw_alerts.parquet: the manifest says 5,{place:03} bytes, found 17"
        held = "few_rows: raw_alerts has 4 % of the rows of the day before" if day == newest and place % 9 == 4 else ""
        if failed or held or day < began or any(first <= day < first + timedelta(days=count) for first, count in gaps):
            rows = []
        missing = state_when_missing(day, began, now)
        days.append(entry(day, rows, network=name, failed=failed, held=held, ready=ready, missing=missing))
    work = Work(newest, "ingest-1:/var/lib/sot-ingest/work", "run", now - timedelta(minutes=4))
    return network(days, [work] * (place % 10 == 3))
