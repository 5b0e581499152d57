"""Where a case happens: a deployment of its own on a ClickHouse server and an S3 API that a worker's cases share."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from moto.server import ThreadedMotoServer
from mypy_boto3_s3 import S3Client

from tests.support.canaries import Canaries
from tests.support.clickhouse import UNCOMPILED, ClickHouseError, OwnClickHouse, User
from tests.support.cluster import Cluster, running_cluster
from tests.support.misbehaving import Misbehaving
from tests.support.snapshots import Bucket, SnapshotFiles, upload
from tests.torture import commands, oracle
from tests.torture.events import done_step, events, last_errors
from tests.torture.oracle import EMPTY, Key, Seen
from tests.torture.watch import Watch

DAY = date(2025, 8, 1)
NETWORKS = ("torus", "bitcoin", "ethereum")


@dataclass
class Ground:
    """What the cases of a worker share; each leaves it as it was."""

    directory: Path
    servers: Sequence[OwnClickHouse]  #: one, or the replicas of a cluster
    moto: tuple[str, int]
    client: S3Client
    pause: float  #: seconds between two looks of the readers
    workers: int  #: of a run for which a case does not say how many; with one, nothing is forked, see write_luigi_cfg
    cluster: Cluster | None = None
    rivals_seconds: float = 600  #: how long the case with two deployments takes
    variables: dict[str, str] = field(default_factory=dict)  #: of the environment of all commands

    @property
    def server(self) -> OwnClickHouse:
        """The only server, or the first of several."""
        return self.servers[0]

    @property
    def running(self) -> bool:
        """Whether all servers live."""
        return all(server.running for server in self.servers)

    @contextmanager
    def site(self, networks: Sequence[str] = NETWORKS[:1]) -> Iterator[Site]:
        """Yield a deployment with empty databases, and a bucket with a valid snapshot of each network."""
        name = f"c{secrets.token_hex(4)}"
        directory = self.directory / name
        directory.mkdir()
        bucket = Bucket(directory / "bucket")
        files = {network: bucket.snapshot(network, DAY) for network in networks}
        self.client.create_bucket(Bucket=name)
        with Misbehaving(self.moto).running() as network:
            site = Site(self, name, directory, files, network)
            site.upload()
            try:
                with site.watch.running():
                    yield site
            finally:
                self._drop(name)
        shutil.rmtree(directory)

    def _drop(self, name: str) -> None:
        if self.cluster:
            self.cluster.restore()
        elif not self.server.running:
            self.server.start()
        for server in self.servers:
            for database in oracle.ask(server, "SHOW DATABASES FORMAT TSV").decode().splitlines():
                if database.startswith(name):
                    oracle.ask(server, f"DROP DATABASE {database} SYNC")


@contextmanager
def ground(
    pause: float = 0.15, workers: int = 2, *, cluster: bool = False, rivals_seconds: float = 600
) -> Iterator[Ground]:
    """Start a ClickHouse server, or a cluster, and an S3 API."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs each request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    address = moto.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{address[0]}:{address[1]}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    try:
        with TemporaryDirectory() as name:
            made = partial(Ground, Path(name), moto=address, client=client, workers=workers)
            if cluster:
                with running_cluster(Path(name)) as replicas:
                    yield made(
                        servers=replicas.servers, pause=3 * pause, cluster=replicas, rivals_seconds=rivals_seconds
                    )
            else:
                users = {"small": User("", profile="small")}
                with OwnClickHouse(Path(name) / "clickhouse", users=users, profiles=UNCOMPILED) as server:
                    yield made(servers=[server], pause=pause)
    finally:
        moto.stop()


@dataclass
class Site:
    """One deployment; ``violations`` is what the oracle found, each with the number of its invariant."""

    ground: Ground
    name: str
    directory: Path
    files: dict[str, SnapshotFiles]  #: by network: what is in the bucket
    s3: Misbehaving
    variables: dict[str, str] = field(default_factory=dict)  #: more of the environment
    violations: list[str] = field(default_factory=list)
    ended: list[commands.Ended] = field(default_factory=list)
    legal: dict[str, set[Seen]] = field(default_factory=dict)  #: by network: what readers may have seen

    def __post_init__(self) -> None:
        self.watch = Watch(self, self.ground.pause)
        self.canaries = Canaries.made(clickhouse_password=self.ground.server.password)

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a command."""
        server = self.ground.server
        databases = {f"{network.upper()}_CLICKHOUSE_DATABASE": self.database(network) for network in self.files}
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.directory),
            "WORK_PATH": str(self.work),
            "LOG_FORMAT": "json",
            "INGESTION_NETWORKS": ",".join(self.files),
            "INGESTION_RETRY_ATTEMPTS": "1",
            "SOT_S3_BUCKET": self.name,
            "SOT_S3_ENDPOINT": self.s3.url,
            "SOT_S3_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "torture",
            "AWS_SECRET_ACCESS_KEY": self.canaries.s3_secret,
            "AWS_SESSION_TOKEN": self.canaries.s3_token,
            "AWS_EC2_METADATA_DISABLED": "true",
            **self.where,
            "CLICKHOUSE_USER": server.user,
            "CLICKHOUSE_PASSWORD": server.password,
            **databases,
            **self.ground.variables,
            **self.variables,
        }

    @property
    def where(self) -> dict[str, str]:
        """Return the variables that say where the warehouse is."""
        if self.ground.cluster:
            return {"CLICKHOUSE_HOST": ",".join(host.address for host in self.ground.cluster.hosts)}
        server = self.ground.server
        ports = {"CLICKHOUSE_PORT": str(server.port), "CLICKHOUSE_HTTP_PORT": str(server.http_port)}
        return {"CLICKHOUSE_HOST": server.host, **ports}

    @property
    def cluster(self) -> Cluster:
        """The cluster, for cases that need one."""
        assert self.ground.cluster
        return self.ground.cluster

    @property
    def work(self) -> Path:
        """The work directory."""
        return self.directory / "work"

    @property
    def bucket(self) -> Path:
        """A directory that holds what is in the bucket."""
        return self.directory / "bucket"

    def file(self, name: str) -> Path:
        """Return the path of a file of a command's own, which is not there before the command."""
        return self.directory / f"{name}-{len(self.ended)}"

    def database(self, network: str) -> str:
        """Return the name of a network's database."""
        return f"{self.name}_{network}"

    def key(self, network: str) -> Key:
        """Return a network's snapshot."""
        return Key(network, self.files[network].snapshot.processing_date)

    def upload(self) -> None:
        """Put everything that is in the bucket's directory into the bucket."""
        upload(self.bucket, self.ground.client, self.name)

    # Commands

    def write_luigi_cfg(self, port: int | None = None) -> None:
        """Let each step of a run have a process of its own, as long ones have, and let runs ask a luigid at a port."""
        core = f"[core]\ndefault_scheduler_port = {port}\n" if port else ""
        (self.directory / "luigi.cfg").write_text(f"[worker]\nforce_multiprocessing = true\n{core}", "utf-8")

    @property
    def alone(self) -> list[str]:
        """Return the options of a run without luigid."""
        return ["--scheduler", "local", "--workers", str(self.ground.workers)]

    def ingest(self, *options: str) -> list[str]:
        """Return the command that ingests the snapshots of all networks, without luigid unless told otherwise."""
        return [
            *("sot-ingest", "run", "--date", str(DAY), *self.alone),
            *(option for network in self.files for option in ("--network", network)),
            *options,  # of an option that is given twice the last counts
        ]

    def again(self) -> list[str]:
        """Return the command that loads the snapshots of all networks again."""
        return ["sot-ingest", "rerun", "--yes", *self.ingest()[2:]]

    def start(self, command: Sequence[str], harm: commands.Harm | None = None) -> commands.Command:
        """Start a command; end it with :meth:`finish`."""
        return commands.start(command, self.environment, self.directory, harm)

    def finish(self, command: commands.Command, seconds: float = commands.SECONDS) -> commands.Ended:
        """Wait for a command's end, and keep what it said."""
        ended = command.wait(seconds)
        self.ended.append(ended)
        return ended

    def run(self, command: Sequence[str] = (), harm: commands.Harm | None = None) -> commands.Ended:
        """Run a command to its end: the ingest of all networks unless given."""
        return self.finish(self.start(command or self.ingest(), harm))

    # The invariants

    def violated(self, invariant: int, what: str) -> None:
        """Note that an invariant does not hold."""
        self.violations.append(f"{invariant}: {what}")

    def check_recovered(self, before: Sequence[commands.Ended], rerun: commands.Ended) -> None:
        """Ask all six invariants after a rerun that ought to have brought everything."""
        self.check_brought(rerun)
        self.check_once([*before, rerun])
        self.check_idle()
        self.check_seen()
        self.check_secrets()

    def check_brought(self, run: commands.Ended) -> None:
        """Check that a run has succeeded, and that readers see what it was to bring."""
        if run.exit_code != 0:
            self.violated(5, f"exit code {run.exit_code}: {last_errors(run)}")
        self.check_rows()

    def check_rows(self) -> None:
        """Invariant 2: readers see what is in the bucket, and may have seen it before."""
        for network, server in product(self.files, self.ground.servers):
            database, key = self.database(network), self.key(network)
            try:
                self._sync(server, database)
                for found in oracle.differences(server, database, key, self.bucket):
                    self.violated(2, f"{network}: {found}")
                self.legal.setdefault(network, {EMPTY}).add(oracle.seen(server, database, key))
            except ClickHouseError as error:
                self.violated(2, f"{network}: {str(error)[:200]}")

    def _sync(self, server: OwnClickHouse, database: str) -> None:
        """Let a replica fetch what it lacks."""
        replicas = f"SELECT table FROM system.replicas WHERE database = '{database}' FORMAT TSV"
        for table in oracle.ask(server, replicas).decode().splitlines():
            oracle.ask(server, f"SYSTEM SYNC REPLICA {database}.{table} LIGHTWEIGHT")

    def check_seen(self) -> None:
        """Invariant 1: readers saw nothing, or what was once proven to be whole."""
        for network, states in self.watch.states.items():
            for state in states - self.legal.get(network, {EMPTY}):
                self.violated(1, f"{network}: readers saw {state}, neither of {self.legal.get(network)}")

    def check_idle(self) -> None:
        """Invariant 3: another run writes nothing, downloads nothing, and exits 0."""
        before, asked = self._state(), len(self.s3.asked)
        ended = self.run()
        if ended.exit_code != 0:
            self.violated(3, f"a run with nothing to do exited {ended.exit_code}: {last_errors(ended)}")
        if (after := self._state()) != before:
            self.violated(3, f"a run with nothing to do changed {sorted(set(before) ^ set(after))[:5]}")
        if gets := [request.path for request in self.s3.asked[asked:] if request.method != "HEAD"]:
            self.violated(3, f"a run with nothing to do asked for {gets[:3]}")

    def _state(self) -> list[str]:
        """Return what an insert into any table, or a file in the work directory, changes; not what a merge does."""
        query = (
            "SELECT database, table, partition_id, max(max_block_number), sum(rows) FROM system.parts "
            f"WHERE startsWith(database, '{self.name}') AND active GROUP BY ALL ORDER BY ALL FORMAT TSV"
        )
        parts = [
            f"{place} {line}"
            for place, server in enumerate(self.ground.servers)
            for line in oracle.ask(server, query).decode().splitlines()
        ]
        paths = [path for path in self.work.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return [*parts, *sorted(f"{path} {path.stat().st_mtime_ns}" for path in paths)]

    def check_once(self, ended: Sequence[commands.Ended]) -> None:
        """Invariant 4: no step that was done in one of these runs was done in a later one."""
        done: set[tuple[str, ...]] = set()
        for run in ended:
            now = {event for event in map(done_step, events(run.stderr)) if event}
            for again in sorted(now & done):
                self.violated(4, f"done again: {' '.join(again)}")
            done |= now

    def check_refused(self, ended: commands.Ended, *, file: str = "") -> None:
        """Invariant 5: the run failed, and a line says network, date, step, what (with the file), and what to do."""
        if ended.exit_code in {0, 1} or ended.exit_code < 0:
            self.violated(5, f"exit code {ended.exit_code}, a failure was expected: {last_errors(ended)}")
        told = [event for event in events(ended.stderr) if event["level"] == "ERROR" and "step" in event]
        if not any({"network", "date", "step", "hint"} <= event.keys() and file in event["message"] for event in told):
            self.violated(5, f"no line with network, date, step, {file} and hint: {ended.stderr[-1_000:]}")
        if "Traceback" in ended.stderr or "Traceback" in ended.stdout:
            self.violated(5, f"a traceback: {ended.stderr[-1_000:]}")

    def check_secrets(self) -> None:
        """Invariant 6: no secret in what commands wrote: logs, files, and rows about their work."""
        for path in self.directory.rglob("*"):
            if path.is_file() and self.bucket not in path.parents:
                for found in self.canaries.found_in(path):
                    self.violated(6, found)
        tables = ("sot_steps", "sot_table_loads", "sot_publications", "sot_claims")
        for network, table, server in product(self.files, tables, self.ground.servers):
            with suppress(ClickHouseError):  # a run that was refused early made no tables
                rows = oracle.ask(server, f"SELECT * FROM {self.database(network)}.{table} FORMAT TSV")
                for found in self.canaries.found_in(rows):
                    self.violated(6, f"{found} in {table}")

    def settle(self) -> None:
        """Check what must hold when nothing was repaired: readers saw nothing wrong, no secret is told."""
        self.check_seen()
        self.check_secrets()
