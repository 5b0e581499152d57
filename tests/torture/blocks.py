"""All blocks, in order."""

from __future__ import annotations

from tests.torture import (
    altered_tables,
    clickhouse_faults,
    hostile_strings,
    keeper_outages,
    kills_at_points,
    kills_by_chance,
    manifests,
    network_cuts,
    on_replicas,
    operation,
    opposite_order,
    parquet_files,
    reading_meanwhile,
    replica_kills,
    s3_faults,
    server_kills,
)
from tests.torture.case import Case

_MODULES = (
    kills_at_points,
    kills_by_chance,
    server_kills,
    s3_faults,
    clickhouse_faults,
    operation,
    manifests,
    parquet_files,
    hostile_strings,
    reading_meanwhile,
    altered_tables,
)

_CLUSTER_MODULES = (replica_kills, keeper_outages, network_cuts, opposite_order, on_replicas)

BLOCKS = tuple(module.BLOCK for module in _MODULES)

#: Those whose warehouse is several servers and a ZooKeeper.
CLUSTER_BLOCKS = tuple(module.BLOCK for module in _CLUSTER_MODULES)


def quick(letters: str) -> dict[str, Case]:
    """Return the quick cases of some blocks by their names."""
    return {f"{block.letter}: {case.name}": case for block in BLOCKS if block.letter in letters for case in block.quick}
