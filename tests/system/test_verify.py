"""``sot-ingest verify`` finds what was changed behind our back, names it, and changes nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from pipeline.graph.context import Context
from pipeline.operations.findings import Finding
from pipeline.operations.rollback import plan_rollback, roll_back
from pipeline.operations.verify import verify_publications
from pipeline.warehouse.publications import publications_by_date
from tests.support.brake import Brake
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import SECONDS, Deployment, ServerReader, a_day
from tests.support.inprocess import in_process, ingest
from tests.support.snapshots import LABELS, Bucket, SnapshotFiles

DAY = a_day()
ANEW = "sot-ingest rerun --date 2025-08-01 --network torus --window-days 195 --table "
WHERE = "WHERE processing_date = '2025-08-01' AND window_days = 195"


class Published:
    """A published day that can be changed behind the pipeline's back, by SQL."""

    def __init__(self, server: ClickHouseServer, prefix: str, directory: Path) -> None:
        self.server, self.prefix = server, prefix
        self.bucket = Bucket(directory / "bucket")
        self.files: SnapshotFiles = self.bucket.snapshot()
        self.deployment: Deployment
        self.context: Context
        reader = ServerReader(server, prefix)
        self.deployment, self.context = in_process(self.bucket.root, reader, directory / "run")
        ingest(self.context, DAY)

    def change(self, table: str, statement: str) -> None:
        """Run a statement; ``{db}``, ``{loads}`` and ``{load}`` stand for database, table and published load."""
        loads, load = f"{self.prefix}torus.{table}_loads", self.deployment.published(DAY)[table]
        self.server.http(statement.format(db=f"{self.prefix}torus", loads=loads, load=load))

    def supersede(self, replaced: str) -> None:
        """Publish the newest publication once more, with something else in it."""
        table = f"{self.prefix}torus.sot_publications"
        self.server.http(
            f"INSERT INTO {table} SELECT * REPLACE (published_at + 1 AS published_at, "
            f"generateUUIDv7() AS publication_id, {replaced}) FROM {table} ORDER BY published_at DESC LIMIT 1"
        )

    def findings(self, *, deep: bool = False) -> list[Finding]:
        """Return what verify finds; it writes nothing."""
        before = self.deployment.written("torus")
        (found,) = verify_publications(
            self.context, ["torus"], DAY.processing_date, DAY.processing_date, 195, deep=deep
        )
        if not deep:
            assert self.deployment.written("torus") == before
        return found.findings


@pytest.fixture
def published(clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path) -> Published:
    """One day on the server."""
    return Published(clickhouse, database_prefix, tmp_path)


def test_what_was_loaded_is_as_it_was_loaded(published: Published) -> None:
    """No finding, deep or not; a deep one leaves neither rows nor files nor a load that a run could take for one."""
    before, loads = published.deployment.written("torus"), published.deployment.loads(DAY)
    assert published.findings() == published.findings(deep=True) == []
    after = [row for row in published.deployment.written("torus") if row[0] != "sot_table_loads"]
    assert after == [row for row in before if row[0] != "sot_table_loads"]
    assert published.deployment.loads(DAY) == loads
    assert {load["state"] for load in published.deployment.ledger(DAY)} == {"loaded", "compared"}
    assert published.deployment.work_files() == {}


#: What is done to a table behind our back, and what is found then: kind, found, expected.
DEFECTS: dict[str, tuple[str, str, str, str]] = {
    "raw_alerts": (
        f"DELETE FROM {{loads}} {WHERE} AND alert_id = (SELECT min(alert_id) FROM {{loads}} {WHERE})",
        "rows",
        "29 rows",
        "30 rows",
    ),
    "raw_features": (
        f"INSERT INTO {{loads}} SELECT * FROM {{loads}} {WHERE} ORDER BY address LIMIT 1",
        "rows",
        "51 rows, 1 of them with a key that stands twice",
        "50 rows",
    ),
    "raw_clusters": (
        f"ALTER TABLE {{loads}} UPDATE total_volume_usd = total_volume_usd + 1 "
        f"WHERE cluster_id = (SELECT min(cluster_id) FROM {{loads}} {WHERE}) SETTINGS mutations_sync = 2",
        "content",
        "digest ",
        "digest ",
    ),
    LABELS: (
        "ALTER TABLE {loads} DROP PARTITION ('2025-08-01', 195, '{load}')",
        "rows",
        "no rows: the partition is not there",
        "40 rows",
    ),
}


def assert_found(published: Published, defects: dict[str, tuple[str, str, str, str]], **repairs: str) -> None:
    """Do it to each table, and find exactly that; ``repairs`` is what else the hint says first."""
    loads = published.deployment.published(DAY)
    for table, (statement, *_) in defects.items():
        published.change(table, statement)
    findings = {finding.table: finding for finding in published.findings()}
    assert findings.keys() == defects.keys()
    for table, (_, kind, found, expected) in defects.items():
        finding = findings[table]
        assert (finding.kind, finding.load_id) == (kind, loads[table])
        assert finding.hint == repairs.get(table, "") + ANEW + table
        assert finding.found.startswith(found)
        assert finding.expected.startswith(expected)
        assert finding.found != finding.expected


def test_rows_that_were_changed_are_found_and_named(published: Published) -> None:
    """A row deleted, doubled, changed; a partition dropped: table, load, found, expected, the command that repairs."""
    assert_found(published, DEFECTS)


def test_a_dropped_table_and_another_view_are_found(published: Published) -> None:
    """Readers may see something else than the rows that are there, and as many: the view's query is compared."""
    other = "* REPLACE ('low' AS severity_max)"
    view = f"CREATE OR REPLACE VIEW {{db}}.raw_clusters AS SELECT {other} FROM {{loads}} WHERE load_id = '{{load}}'"
    gone = "DROP TABLE {loads} SYNC"
    assert_found(
        published,
        {
            "raw_alerts": (gone, "rows", "there is no table raw_alerts_loads", "30 rows"),
            "raw_clusters": (view, "view", "another query", "the one that this version makes"),
            "raw_features": ("DROP VIEW {db}.raw_features SYNC", "view", "there is no view raw_features", "50 rows"),
        },
        raw_clusters=f"DROP VIEW {published.prefix}torus.raw_clusters, then ",
    )


def test_a_publication_pointing_nowhere_is_found(published: Published) -> None:
    """It names a load that nobody made, it lacks a table, it says another number of rows."""
    nowhere = "00000000-0000-7000-8000-000000000000"
    published.supersede(f"mapUpdate(load_ids, map('raw_clusters', toUUID('{nowhere}'))) AS load_ids")
    (finding,) = published.findings()
    assert (finding.kind, finding.load_id, finding.found) == ("ledger", nowhere, "no such load")
    assert "sot-ingest rollback --date 2025-08-01" in finding.hint
    published.supersede("mapFilter((name, _) -> name != 'raw_clusters', load_ids) AS load_ids")
    (finding,) = published.findings()
    assert (finding.kind, finding.found) == ("publication", "load_ids has raw_address_labels, raw_alerts, raw_features")
    roll_back(published.context, plan_rollback(published.context, DAY, first_id(published)))
    published.supersede("mapUpdate(row_counts, map('raw_clusters', toUInt64(21))) AS row_counts")
    (finding,) = published.findings()
    assert (finding.kind, finding.found, finding.expected) == ("publication", "21 rows published", "20 rows loaded")


def first_id(published: Published) -> str:
    """Return the id of the first publication of the day."""
    return str(published.deployment.publications(DAY)[0]["publication_id"])


def test_what_upstream_did_since_is_a_finding_of_its_own(published: Published) -> None:
    """A new manifest is a finding, one that was rolled back from and one that is gone are told."""
    before = published.bucket.snapshot(seed=7)
    (finding,) = published.findings()
    assert (finding.kind, finding.table, finding.is_fault) == ("superseded upstream", "", True)
    assert finding.found != finding.expected
    assert finding.hint == "sot-ingest run --date 2025-08-01 --network torus --window-days 195"
    assert [each.kind for each in published.findings(deep=True)] == ["superseded upstream", "not compared"]
    ingest(published.context, DAY)
    assert published.findings() == []
    roll_back(published.context, plan_rollback(published.context, DAY, None))
    (told,) = published.findings()
    assert (told.kind, told.is_fault) == ("rolled back", False)
    before.manifest_path.unlink()
    (told,) = published.findings(deep=True)
    assert (told.kind, told.is_fault) == ("gone upstream", False)


def test_a_day_that_is_published_again_meanwhile_is_looked_at_again(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was the newest when verify began is superseded, and its loads collected: that is no finding."""
    stale = publications_by_date(published.context.warehouse("torus"), DAY.processing_date, DAY.processing_date, 195)
    published.change("raw_alerts", DEFECTS["raw_alerts"][0])
    assert [finding.table for finding in published.findings()] == ["raw_alerts"]
    published.bucket.snapshot(seed=7)
    ingest(published.context, DAY)
    monkeypatch.setattr("pipeline.operations.verify.publications_by_date", lambda *_: stale)
    assert published.findings() == []


def test_a_deep_one_compares_with_the_files(published: Published) -> None:
    """A row changed and the ledger with it: only the file can tell.

    A file that is another than its manifest lists is a finding too; labels of a later export are not compared.
    """
    published.change("raw_clusters", DEFECTS["raw_clusters"][0])
    digest = published.findings()[0].found.removeprefix("digest ")
    published.change(
        "raw_clusters",
        f"ALTER TABLE {{db}}.sot_table_loads UPDATE content_digest = '{digest}' "
        "WHERE table_name = 'raw_clusters' SETTINGS mutations_sync = 2",
    )
    assert published.findings() == []
    (finding,) = published.findings(deep=True)
    assert (finding.kind, finding.table) == ("rows of the file", "raw_clusters")
    assert finding.found.startswith("1 rows that the file does not have, without 1 that it has; keys: ('")
    assert finding.expected == "the 20 rows of clusters.parquet"
    assert finding.hint == ANEW + "raw_clusters"
    published.files.corrupt("raw_alerts", 100)
    damaged, still = published.findings(deep=True)
    assert (damaged.kind, damaged.table, still) == ("file", "raw_alerts", finding)
    assert "the manifest says" in damaged.found
    published.files.corrupt("raw_alerts", 100)
    later = published.bucket.snapshot(day=a_day("2025-08-02").processing_date, seed=8)
    later.edit_manifest(lambda meta: meta.update(generated_at="2025-08-04T00:30:00Z"))
    found, told = published.findings(deep=True)
    assert (found, told.kind, told.table, told.is_fault) == (finding, "not compared", LABELS, False)


def test_the_command_says_what_it_found(published: Published) -> None:
    """Exit 0 and one line; exit 3, a paragraph for each finding, or JSON; exit 35 without an answer."""
    deployment = published.deployment
    command = ["sot-ingest", "verify", "--date", "2025-08-01"]
    well = deployment.command(*command)
    assert (well.exit_code, well.stdout) == (0, "Verified 1 publication with 140 rows: as they were loaded\n")
    published.change("raw_alerts", DEFECTS["raw_alerts"][0])
    found = deployment.command(*command)
    assert found.exit_code == 3
    assert found.stdout.splitlines()[:5] == [
        "2025-08-01 torus, 195 days: rows",
        f"  table     raw_alerts, load {deployment.published(DAY)['raw_alerts']}",
        "  found     29 rows",
        "  expected  30 rows",
        f"  to do     {ANEW}raw_alerts",
    ]
    as_json = deployment.command(*command, "--json")
    assert as_json.exit_code == 3
    (day,) = json.loads(as_json.stdout)
    assert [(each["kind"], each["table"]) for each in day["findings"]] == [("rows", "raw_alerts")]
    deployment.variables["SOT_PATH"] = str(deployment.directory / "nothing")
    nobody = deployment.command(*command)
    assert (nobody.exit_code, nobody.stdout) == (35, "")
    assert "Could not verify" in nobody.log()[-1]["message"]


def test_one_that_is_killed_leaves_what_nobody_takes_for_a_load(published: Published) -> None:
    """SIGKILL while rows are sent: readers and runs do not know the load, the ledger does; the next one clears up."""
    server, deployment = published.server, published.deployment
    seen, loads = deployment.published(DAY), deployment.loads(DAY)
    with Brake((server.host, server.http_port), limit=20_000).running() as brake:
        deployment.variables["CLICKHOUSE_HTTP_PORT"] = str(brake.port)
        process = deployment.start("sot-ingest", "verify", "--date", "2025-08-01", "--deep")
        assert brake.held.wait(SECONDS)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    del deployment.variables["CLICKHOUSE_HTTP_PORT"]
    assert {load["state"] for load in deployment.ledger(DAY)} == {"loaded", "compared", "started"}
    assert (deployment.published(DAY), deployment.loads(DAY)) == (seen, loads)
    assert deployment.work_files() != {}
    assert published.findings(deep=True) == []
    assert deployment.work_files() == {}
    assert deployment.run(DAY).done == []
