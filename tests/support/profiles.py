"""What the pipeline does for a user whose profile changes settings: on a server with a user for each profile.

The engine reads its users when it starts, so that profiles come in rounds: all of a round are known to one server.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr

from pipeline.clickhouse import ClickHouse
from pipeline.demo.bucket import Rows
from pipeline.errors import PipelineError
from pipeline.files import parquet
from pipeline.files.atomic import sha256_of
from pipeline.graph import steps
from pipeline.graph.context import Context
from pipeline.operations import gc, rollback
from pipeline.operations.verify import verify_publications
from pipeline.settings import ServerAddress
from pipeline.snapshot import Snapshot
from pipeline.sources.sot_tables import ROLE as SOT_ROLE
from pipeline.sources.sot_tables import SotTables
from pipeline.tables import BY_NAME, TABLES, Table
from pipeline.warehouse import claims
from pipeline.warehouse.claims import Claimant
from pipeline.warehouse.collect import stored_loads
from pipeline.warehouse.load import ProvenFile, load_file
from pipeline.warehouse.publications import publications_of
from pipeline.warehouse.publish import new_id, publish_after
from pipeline.warehouse.schema import check_schema
from tests.support.clickhouse import ClickHouseError, ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import ServerReader
from tests.support.inprocess import in_process, ingest
from tests.support.setting_changes import CUTTING, Profile, merge
from tests.support.snapshots import Bucket, SnapshotFiles, contract
from tests.support.sot import Sot

ROWS = Rows(features=9, alerts=8, clusters=7, address_labels=6)
PASSWORD = "secret"

#: One value of each kind that its column cannot hold.
BAD_VALUES: dict[str, tuple[str, str, object, pa.DataType]] = {
    "a text that is missing": ("raw_alerts", "description", None, pa.string()),
    "a key that is missing": ("raw_alerts", "alert_id", None, pa.string()),
    "an amount that is missing": ("raw_alerts", "volume_usd", None, pa.decimal128(38, 18)),
    "an amount with too many digits": ("raw_alerts", "volume_usd", Decimal("1e22"), pa.decimal256(60, 18)),
    "a number that is missing": ("raw_clusters", "total_alerts", None, pa.int64()),
    "a number below zero": ("raw_clusters", "total_alerts", -1, pa.int64()),
    "a number that is too large": ("raw_clusters", "total_alerts", 2**40, pa.int64()),
    "a score that is missing": ("raw_clusters", "confidence_avg", None, pa.float64()),
    "a score that is too large": ("raw_clusters", "confidence_avg", 1e300, pa.float64()),
    "a list with a gap": ("raw_clusters", "related_alert_ids", ["a", None], pa.list_(pa.string())),
    "a flag that is missing": ("raw_features", "is_whale", None, pa.bool_()),
    "a list with a number that is too large": ("raw_features", "hourly_activity", [2**20] * 24, pa.list_(pa.int64())),
    "another date": ("raw_alerts", "processing_date", date(2025, 1, 1), pa.date32()),
}


class Difference(NamedTuple):
    """What a profile changes."""

    profile: Profile
    found: dict[str, str]  #: by act: what came of it
    wanted: dict[str, str]  #: by act: what came of it for a user whose profile changes nothing

    @property
    def changed(self) -> str:
        """The setting, without the overflow modes that come with a limit."""
        names = [name for name, value in self.profile.items() if (name, value) not in CUTTING.items()]
        return names[0] if names else next(iter(self.profile))

    @property
    def first(self) -> tuple[str, str]:
        """The first act that came out another way, and how."""
        act = next(act for act, wanted in self.wanted.items() if self.found.get(act) != wanted)
        return act, self.found.get(act, "nothing")

    @property
    def is_told(self) -> bool:
        """Whether an error names a setting of the profile, or a reader is told by ClickHouse."""
        said = self.first[1]
        return (" → " in said and any(name in said for name in self.profile)) or said.startswith("the reader's error")


@dataclass(frozen=True)
class Round:
    """A running server: users ``u0``, … who may do everything, and ``r0``, … who may read what is the first's."""

    server: OwnClickHouse
    directory: Path

    @cached_property
    def files(self) -> SnapshotFiles:
        """A good day."""
        return Bucket(self.directory / "bucket").snapshot(rows=ROWS)

    @cached_property
    def bad_files(self) -> dict[str, ProvenFile]:
        """A file with each of :data:`BAD_VALUES`, and nothing else wrong."""
        return dict(_bad_files(self.directory / "bad"))


@contextmanager
def started(directory: Path, profiles: Sequence[Profile]) -> Iterator[Round]:
    """Run a server with a user and a reader for each profile; nothing is left of it."""
    names = [name for table in BY_NAME for name in (table, f"{table}_loads")]
    reads = tuple(f"GRANT SELECT ON d0_torus.{name}" for name in (*names, "sot_publications"))
    users = {}
    for place in range(len(profiles)):
        users[f"u{place}"] = User(PASSWORD, profile=f"p{place}")
        users[f"r{place}"] = User(PASSWORD, reads, f"p{place}")
    named = {f"p{place}": profile for place, profile in enumerate(profiles)}
    with OwnClickHouse(directory / "server", users=users, profiles=named) as server:
        yield Round(server, directory)
    shutil.rmtree(directory)


def _bad_files(directory: Path) -> Iterator[tuple[str, ProvenFile]]:
    for number, (what, (name, column, value, kind)) in enumerate(BAD_VALUES.items()):
        files = Bucket(directory / str(number)).snapshot(rows=ROWS)
        files.set_value(name, column, 3, value, kind)
        path = files.path(name)
        footer = parquet.read_footer(path, path.name)
        yield (
            what,
            ProvenFile(
                table=BY_NAME[name],
                path=path,
                name=path.name,
                sha256=sha256_of(path),
                bytes=path.stat().st_size,
                footer=footer,
                proof="sha256",
                superseded_by="",
                manifest_sha256="0" * 64,
                source="file:///bad/META.json#1",
                content_digest=None,
            ),
        )


@dataclass
class Walk:
    """What the pipeline did for one user, said without what differs between two times: ids and moments."""

    found: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    def note(self, what: str, act: Callable[[], object], *, and_stop: bool = False) -> None:
        """Remember what an act returned or raised."""
        if self.stopped:
            return
        try:
            self.found[what] = str(act())
        except PipelineError as error:
            self.found[what] = f"{type(error).__name__}: {error} → {error.hint}"
            self.stopped = and_stop
        except ClickHouseError as error:
            self.found[what] = f"the reader's error: {error}"
        except Exception as error:  # noqa: BLE001  # a traceback for the operator
            self.found[what] = f"traceback: {type(error).__name__}: {error}"
            self.stopped = and_stop


def walk(round_: Round, user: int) -> dict[str, str]:
    """Do what is done in the life of a day as one user of the server; return what came of it."""
    context, database = context_of(round_, user), f"d{user}_torus"
    snapshot, warehouse, done = round_.files.snapshot, context.warehouse("torus"), Walk()
    done.note("good day", partial(ingest, context, snapshot), and_stop=True)
    done.note("other days", partial(publish_other_days, round_.server, database))
    for table in contract():
        done.note(table, partial(_seen, round_.server, None, database, table))
    for what, file in round_.bad_files.items():
        done.note(what, lambda file=file: load_file(warehouse, snapshot, file).row_count)  # type: ignore[misc]
    done.note("verify", lambda: _verified(context))
    done.note("the day again", partial(_again, context, snapshot))
    done.note("one publication of two", partial(_publish_twice, context, snapshot))
    done.note("one claim of two", partial(_claim_twice, context, snapshot))
    done.note("rollback", lambda: rollback.roll_back(context, rollback.plan_rollback(context, snapshot, None)).action)
    done.note("shape", lambda: sorted(check_schema(warehouse)))
    done.note("gc", partial(_collected, context))
    done.note("verify after gc", lambda: _verified(context))
    for table in contract():
        done.note(f"{table} in the end", partial(_seen, round_.server, None, database, table))
    shutil.rmtree(context.settings.work_path.parent)
    return done.found


def context_of(round_: Round, user: int) -> Context:
    """Return what a run of a user has, whose database is its own."""
    server = ClickHouseServer(round_.server.host, round_.server.port, round_.server.http_port, f"u{user}", PASSWORD)
    directory = round_.directory / f"run{user}"
    return in_process(round_.files.root, ServerReader(server, f"d{user}_"), directory)[1]


def seen_by(round_: Round, reader: int) -> dict[str, str]:
    """Return what a reader sees in the first user's views."""
    done = Walk()
    for table in contract():
        done.note(table, partial(_seen, round_.server, f"r{reader}", "d0_torus", table))
    return done.found


def publish_other_days(server: OwnClickHouse, database: str) -> None:
    """Add publications of other days, so that a limit of a few rows is one."""
    server.http(
        f"""
        INSERT INTO {database}.sot_publications
        SELECT * EXCEPT number REPLACE (
            processing_date - number - 1 AS processing_date,
            mapApply((k, id) -> (k, toUUID(concat(left(toString(id), 35), toString(number)))), load_ids) AS load_ids
        )
        FROM {database}.sot_publications CROSS JOIN numbers(5) AS days
        """
    )


def _seen(server: OwnClickHouse, user: str | None, database: str, table: str) -> str:
    """Return what a user, or else one whose profile changes nothing, sees in a view, as a digest of all cells."""
    columns = ", ".join(name for name in contract()[table] if name != "created_at")
    query = f"SELECT concat(toString(count()), ' rows ', toString(sum(cityHash64({columns})))) FROM {database}.{table}"
    return server.http(query, user=user, password=PASSWORD if user else None).strip()


def _verified(context: Context) -> list[str]:
    day = date(2025, 8, 1)
    return [
        f"{finding.kind} {finding.table}: {finding.found}, expected {finding.expected}"
        for each in verify_publications(context, ["torus"], day, day, 195, deep=False)
        for finding in each.findings
    ]


def _again(context: Context, snapshot: Snapshot) -> int:
    steps.forget(context, snapshot, tuple(contract()))
    ingest(context, snapshot)
    return len(publications_of(context.warehouse("torus"), snapshot))


def _publish_twice(context: Context, snapshot: Snapshot) -> list[bool]:
    """Publish twice upon the same one."""
    warehouse = context.warehouse("torus")
    newest = publications_of(warehouse, snapshot)[-1]
    wanted = [replace(newest, publication_id=new_id(warehouse), run_id=str(number)) for number in range(2)]
    return [publish_after(warehouse, snapshot, each, after=newest) is not None for each in wanted]


def _claim_twice(context: Context, snapshot: Snapshot) -> list[tuple[Any, ...]]:
    """Claim twice after the same one."""
    warehouse = context.warehouse("torus")
    current = claims.newest_claim(warehouse, snapshot)
    for who in ("one", "two"):
        claims._claim_after(warehouse, snapshot, current, Claimant(who, who), 0.0)
    return warehouse.query("SELECT number, owner FROM {database}.sot_claims ORDER BY number, owner")


def _collected(context: Context) -> str:
    policy = gc.Policy(1, None, datetime.now(UTC))
    removed = gc.remove_garbage(context, policy, gc.find(context, policy))
    left = stored_loads(context.warehouse("torus"), "torus")
    why = sorted(f"{each.load.table_name} {each.why} {each.load.rows}" for each in removed.loads)
    return f"removed {why}, left {sorted((load.table_name, load.rows, load.state) for load in left)} {removed.left}"


def differences(directory: Path, groups: Sequence[list[Profile]]) -> Iterator[Difference]:
    """Yield what makes a difference to the pipeline; a group that makes one is halved until one profile is left."""
    number = 0
    while groups:
        number += 1
        with started(directory / str(number), [{}, *map(merge, groups)]) as round_:
            wanted, halves = walk(round_, 0), []
            for user, group in enumerate(groups, 1):
                found = walk(round_, user)
                if found != wanted and len(group) > 1:
                    halves += [group[: len(group) // 2], group[len(group) // 2 :]]
                elif found != wanted:
                    yield Difference(group[0], found, wanted)
        groups = halves


def readers_differences(directory: Path, profiles: Sequence[Profile]) -> Iterator[Difference]:
    """Yield what makes a difference to readers of the views."""
    with started(directory, [{}, *profiles]) as round_:
        ingest(context_of(round_, 0), round_.files.snapshot)
        publish_other_days(round_.server, "d0_torus")
        yield from _compared(partial(seen_by, round_), [{}, *profiles])


def sot_differences(directory: Path, profiles: Sequence[Profile]) -> Iterator[Difference]:
    """Yield what makes a difference to what is read from the SOT ClickHouse."""
    with started(directory, [{}, *profiles]) as round_:
        Sot(round_.server, "sot").fill(round_.files)
        yield from _compared(partial(_exported_by, round_), [{}, *profiles])


def _compared(look: Callable[[int], dict[str, str]], profiles: Sequence[Profile]) -> Iterator[Difference]:
    wanted = look(0)
    for user, profile in enumerate(profiles):
        if (found := look(user)) != wanted:
            yield Difference(profile, found, wanted)


def _exported_by(round_: Round, user: int) -> dict[str, str]:
    """Return what the SOT ClickHouse gives to a user: counts and digests, and every cell of the files."""
    address = ServerAddress(round_.server.host, round_.server.port, round_.server.http_port)
    tables = SotTables(ClickHouse(address, f"u{user}", SecretStr(PASSWORD), secure=False, role=SOT_ROLE), "sot")
    done, snapshot = Walk(), round_.files.snapshot
    for table in TABLES:
        done.note(f"state of {table.name}", partial(tables.table_state, snapshot, table))
        done.note(f"rows of {table.name}", partial(_rows_in, tables, snapshot, table))
    return done.found


def _rows_in(tables: SotTables, snapshot: Snapshot, table: Table) -> str:
    exported = pq.read_table(io.BytesIO(b"".join(tables.read(snapshot, table))))
    return str(exported.schema) + str(sorted(map(str, exported.to_pylist())))
