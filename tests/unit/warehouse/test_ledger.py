"""The ledger: which of the rows about one load counts, in whichever order and however often INSERTs are run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from pipeline.errors import WarehouseUnavailableError
from pipeline.warehouse import Warehouse
from pipeline.warehouse.ledger import LedgerEntry, find_proven_loads, forget_loads, record_load, recorded_loads
from tests.support.deployment import a_day

DAY = a_day()


def a_load() -> LedgerEntry:
    """Return the ledger's first row about a load of the day."""
    return LedgerEntry(
        processing_date=DAY.processing_date,
        window_days=DAY.window_days,
        table_name="raw_alerts",
        load_id=str(uuid4()),
        state="started",
        started_at=datetime(2025, 8, 2, tzinfo=UTC),
        manifest_sha256="",
        file_name="alerts.parquet",
        file_sha256="",
        file_bytes=1,
        proof="sha256",
        superseded_by="",
        source="",
    )


def test_an_end_counts_though_the_start_arrives_after_it(warehouse: Warehouse) -> None:
    """An interrupted client leaves its first row to the server, which may run it after the one about the end."""
    started = a_load()
    record_load(warehouse, started.now("failed", error="interrupted"))
    record_load(warehouse, started)
    assert recorded_loads(warehouse, DAY)[started.load_id].state == "failed"


def test_an_end_counts_though_the_clock_went_back(warehouse: Warehouse) -> None:
    """A load's start is told by a time that the server said before; its clock may have been set since."""
    started = replace(a_load(), started_at=datetime.now(UTC) + timedelta(minutes=5))
    record_load(warehouse, started)
    record_load(warehouse, started.now("loaded"))
    assert recorded_loads(warehouse, DAY)[started.load_id].state == "loaded"


def test_a_table_that_is_missing_leaves_the_loads_of_the_others_proven(warehouse: Warehouse) -> None:
    """Of empty files, too, whose loads have no rows where their table is missing as well."""
    names = ("raw_alerts", "raw_clusters")
    loads = {name: replace(a_load(), table_name=name, file_sha256=name).now("loaded", row_count=0) for name in names}
    for load in loads.values():
        record_load(warehouse, load)
    files = {name: name for name in names}
    assert find_proven_loads(warehouse, DAY, files) == {name: (loads[name].load_id, 0) for name in names}
    warehouse.execute("DROP TABLE {database}.raw_clusters_loads")
    assert find_proven_loads(warehouse, DAY, files) == {"raw_alerts": (loads["raw_alerts"].load_id, 0)}
    warehouse.execute("DROP TABLE {database}.sot_table_loads")
    assert find_proven_loads(warehouse, DAY, files) == {}


@dataclass
class Unheard:
    """A warehouse whose first answer gets lost on its way."""

    warehouse: Warehouse
    asked: int = 0

    def execute(self, statement: str, **parameters: Any) -> None:
        """Run the statement; the first time the connection breaks then."""
        self.warehouse.execute(statement, **parameters)
        self.asked += 1
        if self.asked == 1:
            raise WarehouseUnavailableError("the connection broke", hint="")

    def __getattr__(self, name: str) -> Any:
        """Return what else the warehouse can."""
        return getattr(self.warehouse, name)


def test_taking_a_proof_back_is_tried_again(warehouse: Warehouse) -> None:
    """A rerun's first statement; twice the same does no harm."""
    started = a_load()
    record_load(warehouse, started.now("loaded"))
    unheard = Unheard(warehouse)
    forget_loads(unheard, DAY, ("raw_alerts",))
    assert unheard.asked == 2
    assert recorded_loads(warehouse, DAY)[started.load_id].state == "forgotten"
