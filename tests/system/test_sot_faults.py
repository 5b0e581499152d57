"""What can go wrong with the SOT ClickHouse: rows that change meanwhile, outages, other shapes, a damaged export."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.errors import (
    FileError,
    RefusedValueError,
    SchemaError,
    SourceChangedError,
    SourceError,
    SourceUnavailableError,
)
from pipeline.files import atomic
from pipeline.graph import steps
from pipeline.sources.sot import SotSource
from pipeline.tables import BY_NAME, TABLES
from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import Deployment, ServerReader, a_day, multiset
from tests.support.snapshots import SnapshotFiles
from tests.support.sot import THEIRS, Gate, Sot, at, context_of, ingest

SNAPSHOT = a_day()
OF_DAY = "processing_date = '2025-08-01'"
CHANGES = {
    "added": "INSERT INTO {table} SELECT * REPLACE ('another' AS alert_id) FROM {table} WHERE {day} LIMIT 1",
    "changed": "INSERT INTO {table} SELECT * REPLACE (concat(severity, '!') AS severity, _version + 9 AS _version) "
    "FROM {table} FINAL WHERE {day} LIMIT 1",
    "removed": "DELETE FROM {table} WHERE {day} AND alert_id = (SELECT min(alert_id) FROM {table} WHERE {day})",
}


@pytest.fixture
def sot(clickhouse: ClickHouseServer, database_prefix: str, samples: Path) -> Sot:
    """One day of torus, on the shared server."""
    sot = Sot(clickhouse, f"{database_prefix}sot")
    sot.fill(SnapshotFiles(samples, SNAPSHOT))
    return sot


@pytest.fixture
def deployment(sot: Sot, server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """From there into another database of it."""
    return Deployment(sot.variables(), server_reader, tmp_path / "run")


@dataclass
class Once:
    """Acts before the first statement that is sent while ``when`` holds."""

    when: Callable[[bytes], bool]
    act: Callable[[], object]
    done: bool = False
    exported: list[str] = field(default_factory=list)  #: tables, each time that one was

    def __call__(self, statement: bytes) -> None:
        """Look at a statement."""
        for name, _ in THEIRS.values():
            if b"FORMAT Parquet" in statement and f".{name} FINAL".encode() in statement:
                self.exported.append(name)
        if not self.done and self.when(statement):
            self.done = True
            self.act()


def exporting(table: str) -> Callable[[bytes], bool]:
    """Return what tells the statement that exports a table."""
    return lambda statement: b"FORMAT Parquet" in statement and f"{table} FINAL".encode() in statement


def change(sot: Sot, kind: str, table: str = "analyzers_alerts") -> None:
    """Change one row."""
    sot.server.http(CHANGES[kind].format(table=f"{sot.database}.{table}", day=OF_DAY))


def exported(deployment: Deployment) -> list[str]:
    """Return the files that are exported."""
    return sorted(path.name for path in (deployment.work / "export").rglob("*.parquet"))


# Rows that change


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_between_manifest_and_load_is_caught(deployment: Deployment, sot: Sot, kind: str) -> None:
    """The message names table and digests, nothing is published; the rerun fetches that table, and it arrives."""
    with pytest.raises(SourceChangedError) as caught:
        ingest(deployment, SNAPSHOT, at("LoadTable raw_alerts", lambda: change(sot, kind)))
    said = re.search(r"analyzers_alerts changed .* rows have digest (\w+), the manifest says (\w+)", str(caught.value))
    assert said
    assert said[1] != said[2]
    assert deployment.publications(SNAPSHOT) == []
    assert exported(deployment) == ["address_labels.parquet", "clusters.parquet", "features.parquet"]

    again = ingest(deployment, SNAPSHOT)
    assert [step for step in again if step.startswith("DownloadFile")] == ["DownloadFile raw_alerts"]
    sot.assert_readers_see_final(deployment, SNAPSHOT)


def test_a_change_while_it_is_read_yields_no_mixture(deployment: Deployment, sot: Sot) -> None:
    """The table's file is thrown away; with attempts left the step exports it again, and no other.

    The change comes when all four exports have begun and digests are asked for once more, which WriteManifest does.
    """
    once = Once(
        lambda statement: len(once.exported) == 4 and b"SELECT count()" in statement, lambda: change(sot, "changed")
    )
    with Gate(sot.server, once).open() as gate:
        retries = {"INGESTION_RETRY_ATTEMPTS": "2", "INGESTION_RETRY_DELAY": "0"}
        deployment.variables.update(gate.variables | retries)
        result = deployment.run(SNAPSHOT)
    assert result.exit_code == 0, result.stderr
    (said,) = [event["message"] for event in result.log() if "changed while it was read" in event["message"]]
    assert re.search(r"analyzers_alerts changed .* rows with digest \w+ before, \d+ rows with digest \w+ after", said)
    assert sorted(once.exported) == sorted([*(name for name, _ in THEIRS.values()), "analyzers_alerts"])
    assert once.exported[-1] == "analyzers_alerts"
    sot.assert_readers_see_final(deployment, SNAPSHOT)


def test_without_attempts_left_the_step_fails(deployment: Deployment, sot: Sot) -> None:
    """With an error that says that trying again helps; no manifest is left, and no file of what changed."""
    once = Once(exporting("analyzers_features"), lambda: change(sot, "removed"))
    with Gate(sot.server, once).open() as gate:
        deployment.variables.update(gate.variables)
        with pytest.raises(SourceUnavailableError, match="analyzers_alerts changed while it was read"):
            ingest(deployment, SNAPSHOT)
    assert "alerts.parquet" not in exported(deployment)
    assert list(deployment.work.rglob("META.json")) == []


def test_a_date_that_changes_while_it_settles_is_not_ready(deployment: Deployment, sot: Sot) -> None:
    """What is not ready is exit 20; when upstream has finished it, the next run ingests."""
    deployment.variables["SOT_SETTLE_SECONDS"] = "3600"
    source = context_of(deployment).source
    assert isinstance(source, SotSource)
    waited: list[float] = []

    def write_on(seconds: float) -> None:
        waited.append(seconds)
        change(sot, "changed")

    source._sleep = write_on
    assert not source.wait_until_ready(SNAPSHOT)
    assert waited == [3600]
    assert source.absence(SNAPSHOT)[0] == "torus/2025-08-01/195 that stays the same for 3600 s"
    with pytest.raises(SourceUnavailableError, match="found no torus/2025-08-01/195 that stays the same"):
        source.export_table(SNAPSHOT, TABLES[0], print)
    assert exported(deployment) == []
    deployment.variables["SOT_SETTLE_SECONDS"] = "0"
    ingest(deployment, SNAPSHOT)
    sot.assert_readers_see_final(deployment, SNAPSHOT)


def test_a_change_after_publication_is_published_again(deployment: Deployment, sot: Sot) -> None:
    """A rerun notices it, and a change of the labels alone is none: they know no date."""
    ingest(deployment, SNAPSHOT)
    labels = f"{sot.database}.core_address_labels"
    sot.server.http(f"INSERT INTO {labels} SELECT * REPLACE ('new' AS label) FROM {labels} LIMIT 1")
    assert ingest(deployment, SNAPSHOT) == []
    assert deployment.work_files() == {}
    change(sot, "changed")
    assert ingest(deployment, SNAPSHOT)[-1] == "CleanUp"
    sot.assert_readers_see_final(deployment, SNAPSHOT)
    assert len(deployment.publications(SNAPSHOT)) == 2


def test_a_repair_of_a_table_leaves_the_others_published(deployment: Deployment, sot: Sot) -> None:
    """``rerun --table`` after the labels changed: one new load with the rows of before, then nothing is left to do."""
    ingest(deployment, SNAPSHOT)
    before = deployment.published(SNAPSHOT)
    rows = {table: multiset(deployment.rows(table, SNAPSHOT)) for table in before}
    labels = f"{sot.database}.core_address_labels"
    sot.server.http(f"INSERT INTO {labels} SELECT * REPLACE ('new' AS label) FROM {labels} LIMIT 1")
    result = deployment.rerun(SNAPSHOT, "--table", "raw_alerts")
    assert result.exit_code == 0, result.stderr
    now = deployment.published(SNAPSHOT)
    assert {table for table in now if now[table] != before[table]} == {"raw_alerts"}
    assert {table: multiset(deployment.rows(table, SNAPSHOT)) for table in now} == rows
    assert deployment.run(SNAPSHOT).done == []
    assert deployment.work_files() == {}


# Outages


def test_a_wrong_password_is_told(
    own_clickhouse: Callable[..., OwnClickHouse], server_reader: ServerReader, tmp_path: Path
) -> None:
    """Without the password in the log; the hint names the variables."""
    grants = tuple(f"GRANT SELECT ON sot.{name}" for name, _ in THEIRS.values())
    sot = Sot(own_clickhouse(users={"reader": User("right", grants)}), "sot")
    variables = sot.variables(SOT_USER="reader", SOT_PASSWORD="canary-wrong")
    deployment = Deployment(variables, server_reader, tmp_path / "run")
    result = deployment.run(SNAPSHOT)
    assert result.exit_code == 35
    assert result.errors()[0]["hint"] == "check SOT_USER and SOT_PASSWORD"
    assert "canary" not in result.stderr


def test_a_server_that_is_killed_in_mid_export(
    own_clickhouse: Callable[..., OwnClickHouse],
    server_reader: ServerReader,
    samples: Path,
    tmp_path: Path,
) -> None:
    """The run fails with the step, and the rerun fetches the tables that are not proven, and no other.

    One step at a time: the others are exported, or not begun, when the kill comes.
    """
    server = own_clickhouse()
    sot = Sot(server, "sot")
    sot.fill(SnapshotFiles(samples, SNAPSHOT))
    deployment = Deployment(sot.variables(), server_reader, tmp_path / "run")
    once = Once(exporting("analyzers_alert_clusters"), server.kill)
    with Gate(server, once).open() as gate:
        deployment.variables.update(gate.variables)
        failed = deployment.run(SNAPSHOT, "--workers", "1")
        assert failed.exit_code == 30
        assert failed.errors()[0]["step"] == "ExportTable"
        server.start()
        ingest(deployment, SNAPSHOT)
    assert sorted(once.exported) == sorted([*(name for name, _ in THEIRS.values()), "analyzers_alert_clusters"])
    sot.assert_readers_see_final(deployment, SNAPSHOT)


# Other shapes, and values that do not fit


def test_a_missing_table_is_told(deployment: Deployment, sot: Sot) -> None:
    """Nobody can tell whether the date is ready; the hint names the variable of the database."""
    sot.server.http(f"DROP TABLE {sot.database}.analyzers_alert_clusters")
    with pytest.raises(SourceError, match="analyzers_alert_clusters") as caught:
        context_of(deployment).source.is_ready(SNAPSHOT)
    assert not caught.value.transient
    assert "SOT_DATABASE" in caught.value.hint


@pytest.mark.parametrize(
    ("wrong", "said", "mended"),
    [
        ("analyzers_alerts ADD COLUMN surprise String", "unexpected 'surprise'", "DROP COLUMN surprise"),
        ("analyzers_features DROP COLUMN pagerank", "missing pagerank", "ADD COLUMN pagerank Float32"),
        ("analyzers_features MODIFY COLUMN degree_in String", "degree_in is", "MODIFY COLUMN degree_in UInt32"),
    ],
    ids=["unexpected column", "missing column", "another type"],
)
def test_another_shape_is_refused(deployment: Deployment, sot: Sot, wrong: str, said: str, mended: str) -> None:
    """The error names what is not as it should be, nothing is published; once it is mended, a rerun ingests."""
    sot.server.http(f"ALTER TABLE {sot.database}.{wrong}")
    with pytest.raises(SchemaError, match=said):
        ingest(deployment, SNAPSHOT)
    assert deployment.publications(SNAPSHOT) == []
    sot.server.http(f"ALTER TABLE {sot.database}.{wrong.split(maxsplit=1)[0]} {mended}")
    ingest(deployment, SNAPSHOT)
    sot.assert_readers_see_final(deployment, SNAPSHOT)


def test_extra_columns_may_be_ignored(deployment: Deployment, sot: Sot) -> None:
    """By the setting that says so for files."""
    sot.server.http(f"ALTER TABLE {sot.database}.analyzers_alerts ADD COLUMN surprise String DEFAULT 'x'")
    deployment.variables["INGESTION_IGNORE_EXTRA_COLUMNS"] = "true"
    ingest(deployment, SNAPSHOT)
    sot.assert_readers_see_final(deployment, SNAPSHOT)


@pytest.mark.parametrize(
    ("column", "kind", "value", "said"),
    [
        pytest.param("degree_in", "Int64", "-1", "degree_in is -1 in row", id="negative", marks=pytest.mark.slow),
        pytest.param("degree_in", "Nullable(UInt32)", "NULL", "degree_in is NULL in row", id="null"),
        pytest.param(
            *("hourly_activity", "Array(Int32)", "[70000]", "hourly_activity[0] is 70000 in row"),
            id="in a list",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("total_in_usd", "Decimal(76, 20)", "toDecimal256('1e30', 20)", "total_in_usd is 1"),
            id="too large",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("total_in_usd", "Decimal(76, 20)", "toDecimal256('1e-20', 20)", "total_in_usd is"), id="too many digits"
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    deployment: Deployment, sot: Sot, column: str, kind: str, value: str, said: str
) -> None:
    """With its row, and nothing is published; mended to the type's default, which has the same digest, it arrives."""
    table = f"{sot.database}.analyzers_features"
    sot.server.http(f"ALTER TABLE {table} MODIFY COLUMN {column} {kind}")
    row = f"FROM {table} FINAL ORDER BY address LIMIT 1"
    sot.server.http(f"INSERT INTO {table} SELECT * REPLACE ({value} AS {column}, 8 AS _version) {row}")
    with pytest.raises(RefusedValueError, match=re.escape(said)):
        ingest(deployment, SNAPSHOT)
    assert deployment.publications(SNAPSHOT) == []
    default = "[0]" if kind.startswith("Array") else "0"
    sot.server.http(f"INSERT INTO {table} SELECT * REPLACE ({default} AS {column}, 9 AS _version) {row}")
    ingest(deployment, SNAPSHOT)
    ((found,),) = deployment.query(
        "torus", f"SELECT toString({column}) FROM {{db}}.raw_features ORDER BY address LIMIT 1"
    )
    assert found == default


# A damaged disk


@pytest.mark.parametrize(
    "step", ["DownloadFile raw_address_labels", "ValidateChecksum raw_alerts", "LoadTable raw_alerts"]
)
def test_a_damaged_export_is_made_again(deployment: Deployment, sot: Sot, step: str) -> None:
    """Bytes on disk change before a step, not the time: it is refused, and the rerun exports that table alone."""
    damaged = deployment.work / "export" / SNAPSHOT.folder / "address_labels.parquet"

    def damage() -> None:
        times = damaged.stat()
        with damaged.open("r+b") as file:
            file.seek(1_000)
            file.write(b"damage")
        os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))

    with pytest.raises(FileError):
        ingest(deployment, SNAPSHOT, at(step, damage))
    assert "address_labels.parquet" not in exported(deployment)
    assert deployment.publications(SNAPSHOT) == []
    again = ingest(deployment, SNAPSHOT)
    assert [name for name in again if name.startswith("DownloadFile")] == ["DownloadFile raw_address_labels"]
    sot.assert_readers_see_final(deployment, SNAPSHOT)


def test_an_export_that_is_gone_is_made_again(deployment: Deployment, sot: Sot) -> None:
    """Somebody removed a file before it was downloaded: the step fails, and the rerun exports it."""
    lost = deployment.work / "export" / SNAPSHOT.folder / "clusters.parquet"
    with pytest.raises(FileError, match=r"clusters\.parquet"):
        ingest(deployment, SNAPSHOT, at("DownloadFile raw_clusters", lost.unlink))
    ingest(deployment, SNAPSHOT)
    sot.assert_readers_see_final(deployment, SNAPSHOT)


def test_a_file_system_without_links_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is the file then; a block that fails leaves what was there, with links and without."""
    existing, path = tmp_path / "existing", tmp_path / "path"
    existing.write_bytes(b"exported")

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    for has_links in (True, False):
        if not has_links:
            monkeypatch.setattr(Path, "hardlink_to", refuse)
        path.write_bytes(b"before")
        with pytest.raises(ValueError, match="wrong"), atomic.linking(path, existing):
            raise ValueError("wrong")
        assert path.read_bytes() == b"before"
        with atomic.linking(path, existing) as file:
            file.write(b"exported")
        assert path.read_bytes() == b"exported"
        assert path.samefile(existing) == has_links
        assert sorted(tmp_path.iterdir()) == [existing, path]


def test_progress_is_told(deployment: Deployment, sot: Sot) -> None:
    """Bytes as they arrive, of nobody knows how many, with the table and its rows; in the end all."""
    told: list[tuple[int, int | None, str]] = []
    table = BY_NAME["raw_features"]
    facts = steps.export_table(context_of(deployment), SNAPSHOT, table, lambda *report: told.append(report))
    (file,) = (deployment.work / "export").rglob("*.parquet")
    size, rows = file.stat().st_size, len(sot.final("raw_features", OF_DAY))
    assert facts == {"rows": rows, "bytes": size}
    assert told[-1][:2] == (size, size)
    arrived = [done for done, total, _ in told if total is None]
    assert arrived == sorted(arrived)
    assert arrived[-1] == size
    assert {note for _, _, note in told} == {f"features, {rows:,} rows"}


def test_the_disk_is_used_once(deployment: Deployment) -> None:
    """A downloaded file is another name of the exported one."""

    def look(step: str) -> None:
        if step == "PublishSnapshot":
            for path in (deployment.work / "export").rglob("*.parquet"):
                assert path.samefile(deployment.work / str(SNAPSHOT) / f"raw_{path.name}")

    assert "PublishSnapshot" in ingest(deployment, SNAPSHOT, look)
    assert deployment.work_files() == {}
