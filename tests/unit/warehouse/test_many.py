"""What is asked of many networks' databases together is what each would say alone, or is left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from pipeline.snapshot import Snapshot
from pipeline.warehouse import Replication, Warehouse
from pipeline.warehouse.publications import publications_of, publications_of_many
from pipeline.warehouse.schema import ensure_schema
from pipeline.warehouse.server import ServerWarehouse
from pipeline.warehouse.step_log import StepRecord, count_troubles, insert_records
from tests.support.warehouses import Databases

DAY = date(2025, 8, 1)
DONE = StepRecord(Snapshot("torus", DAY, 195), "CleanUp", "", "done", datetime(2025, 8, 2, 1, tzinfo=UTC), 1.0)


def publish(warehouse: Warehouse) -> None:
    """Append a publication of the day."""
    warehouse.execute(
        "INSERT INTO {database}.sot_publications "
        "(processing_date, window_days, publication_id, action, source, load_ids, row_counts, published_at) "
        "SELECT {day:Date}, 195, generateUUIDv7(), 'publish', 's3://b/META.json#1', "
        "map('raw_alerts', generateUUIDv7()), map('raw_alerts', 7), now64(6)",
        day=DAY.isoformat(),
    )


@pytest.fixture
def networks(databases: Databases) -> dict[str, Warehouse]:
    """One network published once, one twice, one once and to be loaded again, one never, and one without tables."""
    made = {name: databases.new() for name in ("once", "twice", "again", "never", "bare")}
    for name, warehouse in made.items():
        if name != "bare":
            ensure_schema(warehouse)
    for name in ("once", "twice", "twice", "again"):
        publish(made[name])
    made["again"].execute(
        "INSERT INTO {database}.sot_table_loads "
        "(processing_date, window_days, table_name, load_id, state, recorded_at) "
        "SELECT processing_date, window_days, 'raw_alerts', load_ids['raw_alerts'], 'forgotten', now64(6) "
        "FROM {database}.sot_publications"
    )
    return made


@pytest.mark.parametrize("databases", ["server"], indirect=True)
def test_publications_are_those_that_each_would_tell(networks: dict[str, Warehouse]) -> None:
    """Left out are days that were published again or forgotten, and databases without the tables."""
    asked = {Snapshot(name, DAY, 195): warehouse for name, warehouse in networks.items()}
    found = publications_of_many(asked)
    assert {snapshot.network: len(publications) for snapshot, publications in found.items()} == {"once": 1, "never": 0}
    assert found == {snapshot: publications_of(asked[snapshot], snapshot) for snapshot in found}
    assert publications_of_many({}) == {}


@pytest.mark.parametrize("databases", ["server"], indirect=True)
def test_troubles_are_counted_by_network(networks: dict[str, Warehouse]) -> None:
    """Of the days that are asked for, whichever run had them."""
    asked = networks
    insert_records(asked["once"], DONE)
    insert_records(asked["twice"], DONE, replace(DONE, step="LoadTable", state="failed"))
    insert_records(asked["again"], replace(DONE, state="missing"))
    assert count_troubles(asked, DAY, DAY, 195) == {"once": 0, "twice": 1, "again": 1, "never": 0}
    assert set(count_troubles(asked, date(2025, 8, 2), DAY.replace(day=3), 195).values()) == {0}


@pytest.mark.parametrize("databases", ["server"], indirect=True)
def test_replicas_are_not_asked_together(networks: dict[str, Warehouse]) -> None:
    """Each is brought up to date before it is asked."""
    once = networks["once"]
    assert isinstance(once, ServerWarehouse)
    replica = ServerWarehouse(once.server, once.database, 195, Replication("true"))
    assert publications_of_many({Snapshot("once", DAY, 195): replica}) == {}
    pair = ServerWarehouse(once.server, once.database, 195)
    pair.join([pair, replica], lambda _: None)
    assert publications_of_many({Snapshot("once", DAY, 195): pair}) == {}


@pytest.mark.parametrize("databases", ["embedded"], indirect=True)
def test_an_embedded_warehouse_is_asked_alone(databases: Databases) -> None:
    """It has one user."""
    assert publications_of_many({Snapshot("torus", DAY, 195): databases.new()}) == {}


@pytest.mark.parametrize("databases", ["server"], indirect=True)
def test_a_server_that_does_not_answer_is_left_out(databases: Databases) -> None:
    """Who asks one by one waits for it and says why."""
    made = databases.new()
    assert isinstance(made, ServerWarehouse)
    away = ServerWarehouse(
        replace(made.server, address=replace(made.server.address, port=9), _clients={}), made.database, 195
    )
    assert publications_of_many({Snapshot("torus", DAY, 195): away}) == {}
