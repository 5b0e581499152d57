"""Publications that are made at the same time: each follows upon one that no other follows upon."""

from __future__ import annotations

import multiprocessing
import re
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from pipeline.clickhouse import ANSWER_SECONDS, ClickHouse
from pipeline.errors import RequestError, WarehouseError
from pipeline.graph.context import Context
from pipeline.operations.rollback import plan_rollback, roll_back
from pipeline.settings import ServerAddress, Settings
from pipeline.tables import TABLES
from pipeline.warehouse import ROLE, Warehouse
from pipeline.warehouse.publications import Publication, publications_of
from pipeline.warehouse.publish import new_id, publish_after, publish_loads
from pipeline.warehouse.schema import ensure_schema
from pipeline.warehouse.server import ServerWarehouse
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import a_day
from tests.support.warehouses import on_server

DAY = a_day()
PUBLISHERS = 6


@pytest.fixture
def server_database(clickhouse: ClickHouseServer) -> Iterator[str]:
    """The name of a database in the pipeline's shape, on the server."""
    with on_server(clickhouse) as made:
        warehouse = made.new()
        ensure_schema(warehouse)
        yield warehouse.database


def connected(server: ClickHouseServer, database: str) -> Warehouse:
    """Return a warehouse with a connection of its own."""
    address = ServerAddress(server.host, server.port, server.http_port)
    return ServerWarehouse(ClickHouse(address, server.user, SecretStr(server.password), False, ROLE), database, 195)


def publish_version(
    warehouse: Warehouse, manifest: str, upstreams: str | None = None, source: str | None = None
) -> Publication:
    """Publish four new loads without rows; the manifest at the source is this one or another."""
    loads = {table.name: (str(uuid4()), 0) for table in TABLES}
    run_id = secrets.token_hex(4)
    return publish_loads(
        warehouse,
        DAY,
        manifest_sha256=manifest,
        source=source or f"s3://{manifest}",
        loads=loads,
        run_id=run_id,
        is_upstreams=lambda uri, sha256: uri.endswith(sha256) and sha256 == (upstreams or manifest),
    )


def publish_elsewhere(warehouse: Warehouse, manifest: str, upstreams: str) -> str:
    """Publish from a process of its own; return the manifest that readers saw then."""
    return publish_version(warehouse, manifest, upstreams).manifest_sha256


def test_a_publication_is_read_back_as_it_was_made(warehouse: Warehouse) -> None:
    """Who, which run, which loads; the same manifest is not published twice, another one supersedes.

    Two manifests with one URI are the same: two hosts made them of the same rows of the SOT ClickHouse.
    """
    first = publish_version(warehouse, "a" * 64)
    assert (first.action, first.forgotten) == ("publish", False)
    assert publish_version(warehouse, "a" * 64) == first
    assert publish_version(warehouse, "d" * 64, source=first.source) == first
    second = publish_version(warehouse, "b" * 64)
    assert publications_of(warehouse, DAY) == [first, second]
    assert first.publication_id < second.publication_id
    assert first.published_at < second.published_at


def test_one_that_did_not_follow_upon_the_newest_does_not_take_effect(warehouse: Warehouse) -> None:
    """It was decided when readers saw something else; made once more upon the newest it takes effect."""
    first = publish_version(warehouse, "a" * 64)
    second = publish_version(warehouse, "b" * 64)
    late = Publication(**{**vars(first), "publication_id": new_id(warehouse), "action": "rollback"})
    assert publish_after(warehouse, DAY, late, after=first) is None
    assert publish_after(warehouse, DAY, late, after=None) is None
    assert publications_of(warehouse, DAY) == [first, second]
    assert publish_after(warehouse, DAY, late, after=second) == publications_of(warehouse, DAY)[-1]
    assert [publication.action for publication in publications_of(warehouse, DAY)] == ["publish", "publish", "rollback"]


def test_a_day_whose_publications_were_removed_is_published_again(warehouse: Warehouse) -> None:
    """The table remembers tokens for longer than rows."""
    for _ in range(2):
        publish_version(warehouse, "a" * 64)
        assert len(publications_of(warehouse, DAY)) == 1
        warehouse.execute("DELETE FROM {database}.sot_publications WHERE processing_date = '2025-08-01'")
        assert publications_of(warehouse, DAY) == []


def test_a_manifest_that_upstream_took_back_meanwhile_is_not_published(warehouse: Warehouse) -> None:
    """Another run published what upstream published last: a slower one does not bring the older one back."""
    newer = publish_version(warehouse, "b" * 64)
    assert publish_version(warehouse, "a" * 64, upstreams="b" * 64) == newer
    assert publications_of(warehouse, DAY) == [newer]


def test_a_manifest_that_upstream_brought_back_is_published_again(warehouse: Warehouse) -> None:
    """One, another, and the first again at the source; while the source says neither, nothing is published."""
    for manifest in ("a" * 64, "b" * 64):
        publish_version(warehouse, manifest)
    assert publish_version(warehouse, "a" * 64, upstreams="c" * 64).manifest_sha256 == "b" * 64
    assert publish_version(warehouse, "a" * 64).manifest_sha256 == "a" * 64
    assert len(publications_of(warehouse, DAY)) == 3


def test_a_rollback_needs_a_publication_whose_rows_are_there(warehouse: Warehouse) -> None:
    """Nothing published, nothing older, an unknown id, what readers see already, rows that were collected."""
    context = Context(Settings.model_validate({"WAREHOUSE_PATH": Path()}), {(DAY.network, ANSWER_SECONDS): warehouse})
    with pytest.raises(RequestError, match="never published"):
        plan_rollback(context, DAY, None)
    first = publish_version(warehouse, "a" * 64)
    with pytest.raises(RequestError, match="nothing older"):
        plan_rollback(context, DAY, None)
    second = publish_version(warehouse, "b" * 64)
    with pytest.raises(RequestError, match="has no publication") as unknown:
        plan_rollback(context, DAY, str(uuid4()))
    assert re.findall(r"[0-9a-f-]{36}", unknown.value.hint) == [second.publication_id, first.publication_id]
    with pytest.raises(RequestError, match="already"):
        plan_rollback(context, DAY, second.publication_id)
    counted = Publication(**{**vars(first), "publication_id": new_id(warehouse), "row_counts": {"raw_clusters": 20}})
    counted = Publication(**{**vars(counted), "load_ids": {"raw_clusters": first.load_ids["raw_clusters"]}})
    assert publish_after(warehouse, DAY, counted, after=second)
    publish_version(warehouse, "c" * 64)
    with pytest.raises(WarehouseError, match=r"raw_clusters_loads: load .* has 0 rows, 20 were loaded"):
        plan_rollback(context, DAY, None)
    assert len(publications_of(warehouse, DAY)) == 4


def test_a_rollback_that_was_decided_too_late_is_none(warehouse: Warehouse) -> None:
    """A run published between the plan and the yes: readers keep what it published, and the operator is told."""
    context = Context(Settings.model_validate({"WAREHOUSE_PATH": Path()}), {(DAY.network, ANSWER_SECONDS): warehouse})
    for manifest in ("a" * 64, "b" * 64):
        publish_version(warehouse, manifest)
    planned = plan_rollback(context, DAY, None)
    newest = publish_version(warehouse, "c" * 64)
    with pytest.raises(WarehouseError, match="another publication came first"):
        roll_back(context, planned)
    assert publications_of(warehouse, DAY)[-1] == newest


def test_threads_that_follow_upon_the_same_one(clickhouse: ClickHouseServer, server_database: str) -> None:
    """Each round all start at the same instant: exactly one takes effect, and that is what readers see."""
    warehouses = [connected(clickhouse, server_database) for _ in range(PUBLISHERS)]
    first = publish_version(warehouses[0], "0" * 64)
    start = threading.Barrier(PUBLISHERS)

    def compete(warehouse: Warehouse, newest: Publication) -> Publication | None:
        wanted = Publication(**{**vars(newest), "publication_id": new_id(warehouse)})
        start.wait()
        return publish_after(warehouse, DAY, wanted, after=newest)

    chain = [first]
    with ThreadPoolExecutor(PUBLISHERS) as pool:
        for _ in range(5):
            made = list(pool.map(compete, warehouses, [chain[-1]] * PUBLISHERS))
            (winner,) = [publication for publication in made if publication]
            chain.append(winner)
    assert publications_of(warehouses[0], DAY) == chain


def test_processes_that_publish_the_same_and_other_manifests(
    clickhouse: ClickHouseServer, server_database: str
) -> None:
    """No manifest is published twice, and readers end with the one at the source, whoever was the fastest."""
    first, second, last = (letter * 64 for letter in "abc")
    warehouse = connected(clickhouse, server_database)
    with ProcessPoolExecutor(PUBLISHERS, multiprocessing.get_context("fork")) as pool:
        made = [pool.submit(publish_elsewhere, warehouse, each, last) for each in (first, second, last) * 4]
        assert {future.result() for future in made} <= {first, second, last}
    published = [publication.manifest_sha256 for publication in publications_of(warehouse, DAY)]
    assert published[-1] == last
    assert len(set(published)) == len(published)
