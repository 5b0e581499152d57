"""Ways from a bucket, or from files on disk, to tables: the pipeline's, the fastest there is, and other tools'."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from pipeline.snapshot import Snapshot
from pipeline.tables import TABLES
from tests.bench.cost import Cost, cost_of
from tests.bench.peers.job import Job
from tests.bench.rig import CACHE, DATABASE, SNAPSHOT, Rig, brought
from tests.support.clickhouse import ROOT
from tests.support.deployment import Deployment, ServerReader, in_bucket, run_of

BUCKET = "bench"
PEERS = ROOT / ".cache" / "bench-venv" / "bin" / "python"  #: has the other tools
VIEWS, OWN = f"{SNAPSHOT.network}.{{table}}", f"{DATABASE}.{{table}}"  #: where a way's rows are

#: Seconds of a run that are no step's, among the parts of its cost.
BEGIN, END = "to the first step's beginning", "from the last step's end"

_ARRIVAL = "keys, arrival, one instant"  #: what no other tool checks; loading.py says what the words mean
_UNCHECKED = f"values, {_ARRIVAL}"


@dataclass(frozen=True)
class Way:
    """One way, and which of the pipeline's checks it does not make."""

    title: str
    run: Callable[[Rig], Cost]
    tables: str | None = OWN  #: None when it fills none
    unchecked: str = ""


def deployment(rig: Rig) -> Deployment:
    """Return the pipeline as an operator has it, with this measurement's parts."""
    reader = ServerReader(rig.server, "", (SNAPSHOT.network,))
    source = {**in_bucket(BUCKET, rig.s3), "SOT_S3_ANONYMOUS": "true"}
    return Deployment(source, reader, rig.directory / "run", {"INGESTION_NETWORKS": SNAPSHOT.network})


def ours(rig: Rig) -> Cost:
    """``sot-ingest run``, from the bucket to what readers see."""
    return run(rig, SNAPSHOT)


def run(rig: Rig, snapshot: Snapshot) -> Cost:
    """The same of any day of the bucket."""
    return with_steps(_sot_ingest(rig, run_of(snapshot)))


def our_load(rig: Rig) -> Cost:
    """The same when all files are downloaded and validated already: what remains is to load and publish."""
    prepared = CACHE / f"prepared-{rig.files.root.name}"
    if not prepared.exists():
        made = deployment(rig)
        which = ("--network", SNAPSHOT.network, "--processing-date", SNAPSHOT.processing_date.isoformat())
        command = ("luigi", "--module", "pipeline.tasks", "ValidateChecksum", *which, "--window-days", "195")
        for table in TABLES:
            of_table = (*command, "--table", table.name, "--local-scheduler")
            cost_of(of_table, environment=made.environment, directory=made.directory)
        made.work.rename(prepared)
    work = deployment(rig).work
    work.parent.mkdir(exist_ok=True)
    shutil.copytree(prepared, work, copy_function=os.link)
    cost = run(rig, SNAPSHOT)
    return replace(cost, parts={**cost.parts, "load": cost.parts["LoadTable"]})


def backfill(rig: Rig) -> Cost:
    """``sot-ingest backfill`` of all days of the bucket."""
    first, last = str(rig.files.days[0]), str(rig.files.days[-1])
    return _sot_ingest(rig, ["sot-ingest", "backfill", "--from", first, "--to", last, "--scheduler", "local"])


def _sot_ingest(rig: Rig, command: Sequence[str]) -> Cost:
    made = deployment(rig)
    return cost_of(
        command,
        environment=made.environment,
        directory=made.directory,
        server=rig.process,
        watched=rig.watched,
    )


def with_steps(cost: Cost) -> Cost:
    """Return the cost with seconds from the beginning of a step's first task to the end of its last, by the log."""
    begins: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {}
    for event in map(json.loads, cost.stderr.splitlines()):
        if "step" in event and "seconds" in event:
            end = datetime.fromisoformat(event["time"]).timestamp()
            begins.setdefault(event["step"], []).append(end - event["seconds"])
            ends.setdefault(event["step"], []).append(end)
    if not begins:
        return cost
    spans = {step: max(ends[step]) - min(begins[step]) for step in begins}
    first, last = min(map(min, begins.values())), max(map(max, ends.values()))
    spans |= {"steps": last - first, BEGIN: first - cost.started_at, END: cost.started_at + cost.seconds - last}
    return replace(cost, parts=spans)


def job(rig: Rig, **more: Any) -> Mapping[str, Any]:
    """Return what a program in peers/ is told."""
    server = rig.server
    files = {table.name: str(rig.local(table)) for table in TABLES}
    columns = {table.name: brought(table) for table in TABLES}
    told = Job(server.host, server.port, server.http_port, server.user, server.password, DATABASE, files, columns)
    return asdict(replace(told, **more))


def peer(rig: Rig, program: str, *, python: str = sys.executable, **more: Any) -> Cost:
    """Run a program in peers/."""
    rig.make_tables()
    command = (python, "-m", f"tests.bench.peers.{program}")
    # An S3 client of any tool must not look for credentials: on some machines it would wait for them.
    environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"}
    told = job(rig, **more)
    return cost_of(command, directory=ROOT, environment=environment, job=told, server=rig.process, watched=rig.watched)


def urls(rig: Rig) -> dict[str, str]:
    """Return where the S3 server has each table's file."""
    return {table.name: f"{rig.s3}/{BUCKET}/{rig.files.key(table)}" for table in TABLES}


def inserts(source: Callable[[str], str]) -> list[str]:
    """Return an INSERT for each table; ``source`` makes a table function of its name."""
    made = []
    for table in TABLES:
        columns = ", ".join(brought(table))
        into = f"INSERT INTO {DATABASE}.{table.name} ({columns})"
        made.append(f"{into} SELECT {columns} FROM {source(table.name)} SETTINGS max_insert_threads = 2")
    return made


def floor(rig: Rig) -> Cost:
    """The server reads its own files, all tables at once."""
    files = {table.name: rig.local(table) for table in TABLES}
    return peer(rig, "statements", statements=inserts(lambda table: f"file('{files[table]}', Parquet)"))


def from_s3(rig: Rig) -> Cost:
    """The server reads the bucket itself, all tables at once; nothing is on disk in between."""
    at = urls(rig)
    return peer(rig, "statements", statements=inserts(lambda table: f"s3('{at[table]}', NOSIGN, Parquet)"))


def copy(rig: Rig) -> Cost:
    """The files from the bucket to the disk."""
    return peer(rig, "copy_files", urls=urls(rig), files=_elsewhere(rig))


def insert_df(rig: Rig) -> Cost:
    """The way of the system that the pipeline replaces."""
    listed = json.loads((rig.files.root / SNAPSHOT.manifest_key).read_bytes())["sha256"]
    sha256 = {table.name: listed[table.file_names[0]] for table in TABLES}
    return peer(rig, "insert_df", python=str(PEERS), urls=urls(rig), sha256=sha256, files=_elsewhere(rig))


def _elsewhere(rig: Rig) -> dict[str, str]:
    directory = rig.directory / "downloads"
    directory.mkdir()
    return {table.name: str(directory / f"{table.name}.parquet") for table in TABLES}


WAYS: dict[str, Way] = {
    "floor": Way("ClickHouse, `file()` on the server, all tables at once: the floor", floor, unchecked=_UNCHECKED),
    "ours-load": Way("this pipeline, LoadTable", our_load, VIEWS),
    "dlt": Way(
        "dlt, file import",
        lambda rig: peer(rig, "dlt_import", python=str(PEERS)),
        unchecked=_UNCHECKED,
    ),
    "insert-file": Way(
        "clickhouse-connect, `insert_file`",
        lambda rig: peer(rig, "insert_file", python=str(PEERS)),
        unchecked=_UNCHECKED,
    ),
    "copy": Way("plain copy of the files from S3 to disk", copy, None, "everything"),
    "ours": Way("this pipeline, `sot-ingest run`", ours, VIEWS),
    "s3": Way("ClickHouse, `s3()` on the server, all tables at once", from_s3, unchecked=f"SHA-256, {_UNCHECKED}"),
    "insert-df": Way("pandas, `insert_df`: what this pipeline replaces", insert_df, unchecked=_UNCHECKED),
}
