"""``sot-ingest backfill``: the days of a range that are not published, and no others."""

from __future__ import annotations

import json
import time
from dataclasses import astuple
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo import bucket
from pipeline.graph import remaining
from pipeline.graph.context import Context
from pipeline.runs.backfill import PART, parts
from pipeline.settings import Settings
from pipeline.snapshot import Snapshot
from pipeline.tasks import IngestDaily, IngestSnapshot, LoadTable
from pipeline.warehouse import MissingTableError
from tests.support.deployment import ALONE, HASTE, Deployment, Result, ServerReader, in_directory
from tests.support.luigid import free_port
from tests.support.snapshots import Bucket

FIRST, LAST = date(2025, 8, 1), date(2025, 8, 4)
HALF_A_YEAR = 195


@pytest.fixture
def deployment(server_reader: ServerReader, tmp_path: Path) -> Deployment:
    """Two networks on a server, four days of each in a directory."""
    networks = {"INGESTION_NETWORKS": "torus,bitcoin"}
    return Deployment(in_directory(tmp_path / "bucket"), server_reader, tmp_path / "run", networks)


def backfilled(deployment: Deployment, *options: str) -> tuple[Result, dict[str, Any]]:
    """Run the command for the four days, one step at a time and two days a part, and return what it says."""
    program = "from pipeline import cli; from pipeline.runs import backfill; backfill.PART = 4; cli.main()"
    command = ["python", "-c", program, "backfill", "--from", str(FIRST), "--to", str(LAST)]
    result = deployment.command(*command, "--scheduler", "local", "--workers", "1", "--json", *options)
    assert result.stdout, result.stderr
    said: dict[str, Any] = json.loads(result.stdout)
    return result, said


def left(said: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what was left, and why."""
    return [(item["processing_date"], item["network"], item["reason"]) for item in said["left"]]


def test_days_that_are_missing_are_ingested_and_the_others_left_alone(deployment: Deployment, tmp_path: Path) -> None:
    """A gap at the source and a bad day stop no other day; the newest comes first; later runs do what became possible.

    A published day that upstream publishes again is left alone, unless the source is to be asked.
    """
    bucket = Bucket(tmp_path / "bucket")
    days = [FIRST + timedelta(days=after) for after in range(4)]
    files = {day: bucket.snapshot("torus", day) for day in days}
    others = [bucket.snapshot("bitcoin", day) for day in days if day != date(2025, 8, 2)]
    files[days[2]].corrupt("raw_alerts", 100)

    result, said = backfilled(deployment, "--reverse")
    assert result.exit_code == 30
    assert (said["asked"], said["published_before"], said["published_now"]) == (8, 0, 6)
    bad, gap = ("2025-08-03", "torus", "failed"), ("2025-08-02", "bitcoin", "not at the source")
    assert sorted(left(said)) == [gap, bad]
    published = [(event["date"], event["network"]) for event in result.events("Published snapshot")]
    assert [day for day, _ in published] == sorted((day for day, _ in published), reverse=True)
    assert len(published) == 6
    for snapshot in (files[days[0]], others[-1]):
        deployment.assert_readers_see(snapshot)

    files[days[2]].corrupt("raw_alerts", 100)  # twice is as it was
    result, said = backfilled(deployment)
    assert (result.exit_code, left(said), said["published_now"]) == (20, [gap], 1)

    files[days[0]].delete_row("raw_alerts")
    result, said = backfilled(deployment, "--network", "torus")
    assert (result.exit_code, said["published_before"], said["left"]) == (0, 4, [])
    assert [event["message"] for event in result.log()] == ["Run ended: done, or nothing to do"]

    result, said = backfilled(deployment, "--network", "torus", "--check-source")
    assert (result.exit_code, said["published_before"], said["published_now"]) == (0, 3, 1)
    deployment.assert_readers_see(files[days[0]])


def test_days_and_networks_whose_files_are_the_same_are_loaded_each(deployment: Deployment, tmp_path: Path) -> None:
    """Files without the columns of their key may be: what is known of one's loads says nothing of another's."""
    bucket = Bucket(tmp_path / "bucket")
    days = [
        bucket.snapshot(network, FIRST + timedelta(days=after)) for network in ("torus", "bitcoin") for after in (0, 1)
    ]
    for table, columns in {
        "raw_alerts": ("processing_date", "window_days", "network"),
        "raw_features": ("processing_date", "window_days", "network"),
        "raw_clusters": ("processing_date", "window_days", "network"),
        "raw_address_labels": ("network",),
    }.items():
        same = days[0].table(table)
        same = same.drop_columns([name for name in columns if name in same.column_names])
        for files in days:
            files.replace_table(table, same)
    result, said = backfilled(deployment)
    assert said["published_now"] == 4, result.stderr
    for files in days:
        deployment.assert_readers_see(files)


def test_a_warehouse_that_does_not_answer_is_no_backfill(deployment: Deployment) -> None:
    """Exit 35, and no word of days being published or left."""
    deployment.variables |= {**HASTE, "CLICKHOUSE_PORT": str(free_port())}
    command = ["sot-ingest", "backfill", "--from", str(FIRST), "--to", str(LAST), "--scheduler", "local"]
    result = deployment.command(*command)
    assert (result.exit_code, result.stdout) == (35, "")
    assert "Could not tell what is missing" in [event["message"].partition(":")[0] for event in result.log()]


def test_a_range_of_no_days_is_a_mistake(deployment: Deployment) -> None:
    """Exit 2, before anything is asked."""
    result = deployment.command("sot-ingest", "backfill", "--from", "2025-08-02", "--to", "2025-08-01")
    assert result.exit_code == 2
    assert "2025-08-01 is before 2025-08-02" in result.stderr
    result = deployment.command("sot-ingest", "backfill", "--last", "6months", "--from", "2025-08-01")
    assert result.exit_code == 2
    assert "either --from or --last" in result.stderr


def test_the_last_days_are_a_range(deployment: Deployment, tmp_path: Path) -> None:
    """``--last`` ends with ``--to``, which is one of its days."""
    files = [Bucket(tmp_path / "bucket").snapshot("torus", FIRST + timedelta(days=after)) for after in range(3)]
    command = ["backfill", "--last", "2d", "--to", str(FIRST + timedelta(days=2)), "--network", "torus", "--json"]
    result = deployment.command("sot-ingest", *command, *ALONE)
    said = json.loads(result.stdout)
    assert said["exit_code"] == 0
    assert (said["asked"], said["published_before"], said["published_now"], said["left"]) == (2, 0, 2, [])
    assert [len(deployment.publications(each.snapshot)) for each in files] == [0, 1, 1]


def test_a_limit_takes_the_first_days_of_the_range(deployment: Deployment, tmp_path: Path) -> None:
    """Or with --reverse the last; --dry-run says which, and does nothing; what is beyond the limit is no failure."""
    days = [FIRST + timedelta(days=after) for after in range(3)]
    files = [Bucket(tmp_path / "bucket").snapshot("torus", day) for day in days]
    command = ["sot-ingest", "backfill", "--from", str(days[0]), "--to", str(days[2]), "--network", "torus"]
    limited = [*command, "--reverse", "--limit", "1", *ALONE]
    dry = deployment.command(*limited, "--dry-run", "--json")
    assert (dry.exit_code, dry.stderr) == (0, "")
    said = json.loads(dry.stdout)
    assert ([each["processing_date"] for each in said["to_do"]], said["beyond_limit"]) == ([str(days[2])], 2)
    shown = deployment.command(*command, "--dry-run").stdout.splitlines()
    assert [line.split() for line in shown[1:-1]] == [[str(day), "torus"] for day in days]
    assert shown[-1] == "3 of 3 snapshots would be ingested."
    assert not any(deployment.publications(each.snapshot) for each in files)
    done = deployment.command(*limited, "--json")
    assert (done.exit_code, json.loads(done.stdout)["beyond_limit"]) == (0, 2)
    assert [len(deployment.publications(each.snapshot)) for each in files] == [0, 0, 1]


class CountingWarehouse:
    """A warehouse without tables that counts what it is asked."""

    queries = 0

    def sync(self, *_tables: str) -> None:
        """Have nothing that another host could have."""

    def query(self, _statement: str, **_parameters: Any) -> list[tuple[Any, ...]]:
        """Count, and have no table."""
        self.queries += 1
        raise MissingTableError("no such table", hint="")


def test_what_is_missing_is_found_with_one_query_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many days there are, also when luigi's own ranges ask."""
    networks = ("torus", "bitcoin")
    warehouses = {network: CountingWarehouse() for network in networks}
    monkeypatch.setattr(Context, "warehouse", lambda _, network: warehouses[network])
    chosen = Settings.model_validate({"SOT_PATH": tmp_path, "WAREHOUSE_PATH": tmp_path, "WORK_PATH": tmp_path})
    snapshots = remaining.snapshots_in_range(networks, FIRST, FIRST + timedelta(days=HALF_A_YEAR - 1), 195)
    assert len(snapshots) == 2 * HALF_A_YEAR
    assert remaining.remaining_snapshots(Context(chosen), snapshots, check_source=False) == snapshots
    assert [warehouse.queries for warehouse in warehouses.values()] == [1, 1]
    monkeypatch.setattr("pipeline.tasks.get_context", lambda: Context(chosen))
    assert IngestSnapshot.bulk_complete([astuple(snapshot) for snapshot in snapshots]) == []
    assert [warehouse.queries for warehouse in warehouses.values()] == [2, 2]


def test_todays_run_goes_before_a_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a snapshot in a range every step has the range's snapshot_priority; a step of a day's ordinary run has more.

    Both are the same task to luigi, whose scheduler takes the larger priority.
    """
    monkeypatch.setenv("SOT_PATH", str(tmp_path))
    monkeypatch.setenv("WAREHOUSE_PATH", str(tmp_path))
    (today,) = IngestDaily(processing_date=FIRST, window_days=195, networks=("torus",)).requires()
    key: dict[str, Any] = {"network": "torus", "processing_date": FIRST, "window_days": 195}
    of_range = IngestSnapshot(**key, snapshot_priority=10 * HALF_A_YEAR)
    step = of_range.requires().requires()
    load = step.requires().requires()[0]
    assert isinstance(load, LoadTable)
    assert today.task_id == of_range.task_id
    assert today.priority > load.priority >= of_range.priority > IngestSnapshot(**key).priority


@pytest.mark.parametrize("reverse", [False, True])
def test_luigi_is_given_a_part_of_a_long_range_at_once(reverse: bool) -> None:
    """Whole days, in the order that they are to be done in, and every snapshot in one part."""
    snapshots = remaining.snapshots_in_range(("ethereum", "bitcoin", "torus"), FIRST, FIRST + timedelta(days=20), 195)
    found = list(parts(snapshots, reverse=reverse))
    assert sorted(snapshot for part in found for snapshot in part) == sorted(snapshots)
    assert all(0 < len(part) <= PART for part in found)
    days = [snapshot.processing_date for part in found for snapshot in part]
    assert days == sorted(days, reverse=reverse)
    assert sum(len({snapshot.processing_date for snapshot in part}) for part in found) == 21
    assert list(parts([], reverse=reverse)) == []


@pytest.mark.slow
def test_half_a_year_of_three_networks(server_reader: ServerReader, tmp_path: Path) -> None:
    """Small snapshots, all published; the second time there is nothing to do, which takes seconds."""
    networks = ("ethereum", "bitcoin", "torus")
    first = date(2025, 1, 19)
    last = first + timedelta(days=HALF_A_YEAR - 1)
    snapshots = remaining.snapshots_in_range(networks, first, last, 195)
    rows = bucket.Rows(features=8, alerts=6, clusters=5, address_labels=7)
    days = [first + timedelta(days=after) for after in range(HALF_A_YEAR)]
    bucket.write_bucket(tmp_path / "bucket", networks, days, rows=rows)
    deployment = Deployment(in_directory(tmp_path / "bucket"), server_reader, tmp_path / "run")
    command = ["sot-ingest", "backfill", "--from", str(first), "--to", str(last), "--scheduler", "local", "--json"]

    def seconds(published_before: int, published_now: int) -> float:
        started = time.monotonic()
        with (tmp_path / "log").open("w") as log:
            process = deployment.start(*command, log=log.fileno())
            stdout, _ = process.communicate(timeout=7_200)
        assert process.returncode == 0, (tmp_path / "log").read_text()[-2_000:]
        said = json.loads(stdout)
        assert (said["published_before"], said["published_now"]) == (published_before, published_now)
        return time.monotonic() - started

    took = [seconds(0, len(snapshots)), seconds(len(snapshots), 0)]
    print(f"{len(snapshots)} snapshots: {took[0]:.1f} s, the second time {took[1]:.1f} s")  # noqa: T201  # pytest -s
    for network in networks:
        counts = deployment.query(
            network, "SELECT toString(processing_date), count() FROM {db}.raw_features GROUP BY processing_date"
        )
        assert sorted(counts) == [(str(day), rows.features) for day in days]
        assert deployment.query(network, "SELECT count() FROM {db}.sot_publications") == [(HALF_A_YEAR,)]
    assert Snapshot("torus", last, 195) == snapshots[-1]
    assert took[1] < 15
