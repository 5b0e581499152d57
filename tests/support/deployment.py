"""A deployment as an operator has it: commands in processes of their own, an environment, a warehouse to read."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.snapshot import Snapshot
from tests.support.clickhouse import ClickHouseServer
from tests.support.snapshots import SnapshotFiles, contract
from tests.support.zygote import Command

COMMANDS = Path(sys.executable).parent
SECONDS = 120  #: longer than any command takes on a busy machine

#: Variables of a ``sot-ingest`` that waits hardly at all before it tries a request again, and tries it as often as
#: ever: for a service that will not come back.
HASTE = {"TEST_HASTE": "true"}

#: Options of a run for what is not about forks: two workers fork for each load, which costs 0.5 s of CPU a snapshot.
IN_ONE_PROCESS = ("--workers", "1")

#: The same, without luigid.
ALONE = ("--scheduler", "local", *IN_ONE_PROCESS)

#: For tests of what is the same whatever the warehouse.
ON_SERVER = pytest.mark.parametrize("reader", ["server"], indirect=True)


class Reader(Protocol):
    """Reads a warehouse without any code of the pipeline."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that point the pipeline at it."""

    def parquet(self, network: str, query: str) -> bytes:
        """Return a query's rows as Parquet; ``{db}`` stands for the network's database."""

    def held(self) -> AbstractContextManager[None]:
        """Keep the warehouse open for many queries."""


@dataclass
class ServerReader:
    """A ClickHouse server, read over HTTP. Every network's database gets a prefix of the test's own."""

    server: ClickHouseServer
    prefix: str
    networks: Sequence[str] = ("ethereum", "bitcoin", "torus")

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables for this server and these databases."""
        return {
            "CLICKHOUSE_HOST": self.server.host,
            "CLICKHOUSE_PORT": str(self.server.port),
            "CLICKHOUSE_HTTP_PORT": str(self.server.http_port),
            "CLICKHOUSE_USER": self.server.user,
            "CLICKHOUSE_PASSWORD": self.server.password,
            **{f"{network.upper()}_CLICKHOUSE_DATABASE": self.prefix + network for network in self.networks},
        }

    def parquet(self, network: str, query: str) -> bytes:
        """See Reader."""
        import urllib3  # noqa: PLC0415

        text = query.replace("{db}", self.prefix + network) + " FORMAT Parquet"
        url = f"http://{self.server.host}:{self.server.http_port}/"
        headers = {"X-ClickHouse-User": self.server.user, "X-ClickHouse-Key": self.server.password}
        answer = urllib3.request("POST", url, body=text.encode(), headers=headers)
        if answer.status != 200:
            raise LookupError(answer.data.decode("utf-8", "replace")[:1_000])
        return answer.data

    def held(self) -> AbstractContextManager[None]:
        """See Reader."""
        return nullcontext()


@dataclass
class EmbeddedReader:
    """An embedded ClickHouse, opened for each query and let go again: it belongs to one process at a time."""

    path: Path
    _held: Any = None

    @property
    def environment(self) -> Mapping[str, str]:
        """The variable for this directory."""
        return {"WAREHOUSE_PATH": str(self.path)}

    def parquet(self, network: str, query: str) -> bytes:
        """See Reader."""
        if self._held is None:
            with self.held():
                return self.parquet(network, query)
        try:
            return bytes(self._held.query(query.replace("{db}", network), "Parquet").bytes())
        except RuntimeError as error:
            raise LookupError(str(error)) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it open for many queries; meanwhile no command can use it."""
        from chdb.session import Session  # noqa: PLC0415

        if self._held is not None:  # by a caller of our caller
            yield
            return
        self._held = Session(str(self.path))
        try:
            yield
        finally:
            self._held.close()
            self._held = None


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str  #: the log

    @property
    def done(self) -> list[str]:
        """What this command's steps did, in order: their events, each with the table that it is about."""
        events = [event for event in self.log() if "step" in event and "logger" not in event]  # boto logs, too
        return [" ".join(filter(None, (event["message"], event.get("table")))) for event in events]

    def events(self, message: str) -> list[dict[str, Any]]:
        """Return the log's events with this message (LOG_FORMAT=json)."""
        return [event for event in self.log() if event["message"] == message]

    def log(self) -> list[dict[str, Any]]:
        """Return all events of the log; raises ValueError for a line that is none."""
        return [json.loads(line) for line in self.stderr.splitlines()]

    def errors(self) -> list[dict[str, Any]]:
        """Return the events of level ERROR about a step, without the one that ends the run."""
        return [event for event in self.log() if event["level"] == "ERROR" and "step" in event]


@dataclass
class Deployment:
    """A source, a warehouse, a work directory, and the commands in between."""

    defaults: ClassVar[Mapping[str, str]] = {}  #: variables of every deployment that does not say otherwise

    source: Mapping[str, str]  #: variables that name the source
    reader: Reader
    directory: Path  #: of this deployment's own; the current directory of its commands
    variables: dict[str, str] = field(default_factory=dict)  #: more of the environment

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a command."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
            "HOME": os.environ["HOME"],
            "WORK_PATH": str(self.work),
            "INGESTION_RETRY_ATTEMPTS": "1",
            "LOG_FORMAT": "json",
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            **self.defaults,
            **self.source,
            **self.reader.environment,
            **self.variables,
        }

    @property
    def work(self) -> Path:
        """The work directory."""
        return self.directory / "work"

    def start(self, *command: str, log: int | None = None) -> Command:
        """Start a command, in a session of its own; a long log goes into a file, given as its descriptor."""
        return Command(command, self.environment, self.directory, log)

    def command(self, *command: str) -> Result:
        """Run a command to its end."""
        process = self.start(*command)
        stdout, stderr = process.communicate(timeout=SECONDS)
        return Result(process.wait(), stdout, stderr)

    def run(self, snapshot: Snapshot, *options: str) -> Result:
        """Run ``sot-ingest run`` for one snapshot, without luigid, in one process unless options say more."""
        return self.command(*run_of(snapshot), *IN_ONE_PROCESS, *options)

    def rerun(self, snapshot: Snapshot, *options: str) -> Result:
        """Run ``sot-ingest rerun`` for one snapshot, without luigid, in one process unless options say more."""
        return self.command(*rerun_of(snapshot), *IN_ONE_PROCESS, *options)

    def killed(self, after: str, count: int, *command: str) -> Result:
        """Run a command until the log's ``count``-th event ``after``, then kill it and its children (SIGKILL).

        The kill comes a moment later than the event: what else was done is to be asked, not assumed.
        """
        process = self.start(*command)
        assert process.stderr is not None
        deadline = threading.Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        deadline.start()
        lines, seen = [], 0
        for line in process.stderr:
            lines.append(line)
            seen += json.loads(line)["message"] == after
            if seen == count:
                break
        os.killpg(process.pid, signal.SIGKILL)
        result = Result(process.wait(), process.stdout.read(), "".join(lines) + process.stderr.read())
        deadline.cancel()
        process.stdout.close()
        process.stderr.close()
        assert seen == count, result.stderr
        assert result.exit_code == -signal.SIGKILL, result.stderr
        return result

    def rows(self, table: str, snapshot: Snapshot) -> list[tuple[Any, ...]]:
        """Return what readers see of a snapshot in a table: every column but created_at, every row."""
        return self.query(
            snapshot.network,
            f"""
            SELECT * EXCEPT created_at
            FROM {{db}}.{table}
            WHERE processing_date = '{snapshot.processing_date}' AND window_days = {snapshot.window_days}
            """
            if table != "raw_address_labels"
            else f"""
            SELECT *
            FROM {{db}}.{table}
            WHERE processing_date = '{snapshot.processing_date}' AND window_days = {snapshot.window_days}
            """,
        )

    def query(self, network: str, query: str) -> list[tuple[Any, ...]]:
        """Return a query's rows as Python values; ``{db}`` stands for the network's database."""
        columns = [column.to_pylist() for column in self._arrow(network, query).columns]
        return list(zip(*columns, strict=True))

    def records(self, network: str, query: str) -> list[dict[str, Any]]:
        """Return a query's rows by column; none when there is no such table (yet)."""
        try:
            records: list[dict[str, Any]] = self._arrow(network, query).to_pylist()
        except LookupError as error:
            if "UNKNOWN_TABLE" in str(error) or "UNKNOWN_DATABASE" in str(error):
                return []
            raise
        return records

    def _arrow(self, network: str, query: str) -> pa.Table:
        settings = "output_format_parquet_string_as_string = 1, output_format_parquet_date_as_uint16 = 0"
        return pq.read_table(io.BytesIO(self.reader.parquet(network, f"{query} SETTINGS {settings}")))

    # What the pipeline wrote about its work

    def ledger(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Return each load of a snapshot with its newest state, the oldest load first."""
        return self.records(
            snapshot.network,
            f"""
            SELECT
                * REPLACE (toString(load_id) AS load_id)
            FROM {{db}}.sot_table_loads
            WHERE processing_date = '{snapshot.processing_date}' AND window_days = {snapshot.window_days}
            ORDER BY recorded_at DESC
            LIMIT 1 BY load_id
            """,
        )[::-1]

    def loads(self, snapshot: Snapshot) -> dict[str, list[str]]:
        """Return the proven loads of each table, the oldest first; a table without any is left out."""
        found: dict[str, list[str]] = {}
        for load in self.ledger(snapshot):
            if load["state"] == "loaded":
                found.setdefault(load["table_name"], []).append(load["load_id"])
        return found

    def publications(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Return all publications of a snapshot, the oldest first; ``load_ids`` as strings by table."""
        found = self.records(
            snapshot.network,
            f"""
            SELECT
                * REPLACE (
                    CAST(load_ids, 'Map(String, String)') AS load_ids,
                    toString(publication_id) AS publication_id
                )
            FROM {{db}}.sot_publications
            WHERE processing_date = '{snapshot.processing_date}' AND window_days = {snapshot.window_days}
            ORDER BY published_at
            """,
        )
        return [{**row, "load_ids": dict(row["load_ids"]), "row_counts": dict(row["row_counts"])} for row in found]

    def published(self, snapshot: Snapshot) -> dict[str, str]:
        """Return the load of each table that readers see."""
        load_ids: dict[str, str] = self.publications(snapshot)[-1]["load_ids"]
        return load_ids

    def written(self, network: str, *, but: str = "") -> list[tuple[Any, ...]]:
        """Return what changes with every insert into a network's tables, and with nothing else: not with a merge."""
        return self.query(
            network,
            f"""
            SELECT table, partition_id, min(min_block_number), max(max_block_number), sum(rows)
            FROM system.parts
            WHERE database = '{{db}}' AND table != '{but}' AND active
            GROUP BY table, partition_id
            ORDER BY table, partition_id
            """,
        )

    def work_files(self) -> dict[str, tuple[int, int]]:
        """Return size and time of every file in the work directory.

        Without the files of locks: they are empty, and one outlives a process that was killed.
        """
        found = [path for path in self.work.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return {
            path.relative_to(self.work).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in found
        }

    def assert_readers_see(self, files: SnapshotFiles) -> None:
        """Compare every row of all four views with the files that are in the bucket now."""
        with self.reader.held():
            for table in contract():
                assert multiset(self.rows(table, files.snapshot)) == multiset(files.expected_rows(table)), table


def run_of(snapshot: Snapshot) -> list[str]:
    """Return the command that ingests one snapshot, without luigid."""
    return ["sot-ingest", "run", *selection(snapshot), "--scheduler", "local"]


def rerun_of(snapshot: Snapshot) -> list[str]:
    """Return the command that loads one snapshot again, without luigid."""
    return ["sot-ingest", "rerun", *selection(snapshot), "--scheduler", "local", "--yes"]


def selection(snapshot: Snapshot) -> list[str]:
    """Return the options that choose one snapshot."""
    day = snapshot.processing_date.isoformat()
    return ["--date", day, "--network", snapshot.network, "--window-days", str(snapshot.window_days)]


def multiset(rows: Sequence[tuple[object, ...]]) -> list[str]:
    """Return rows in an order of their own, comparable with any others; NaN equals NaN."""
    return sorted(repr(row) for row in rows)


def in_directory(path: Path) -> Mapping[str, str]:
    """Return the variables for a source that is a directory."""
    return {"SOT_PATH": str(path)}


def in_bucket(name: str, endpoint: str) -> Mapping[str, str]:
    """Return the variables for a source that is an S3 bucket."""
    return {"SOT_S3_BUCKET": name, "SOT_S3_ENDPOINT": endpoint, "SOT_S3_REGION": "us-east-1"}


def a_day(text: str = "2025-08-01", network: str = "torus") -> Snapshot:
    """Return a snapshot's key with the usual window."""
    return Snapshot(network, date.fromisoformat(text), 195)
