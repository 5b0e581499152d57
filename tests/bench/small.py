"""The part "small snapshots": one in a run, the same again, and many in a backfill."""

from __future__ import annotations

from datetime import timedelta

from tests.bench.memory import written
from tests.bench.rig import CACHE, SNAPSHOT
from tests.bench.versions import Comparison, Version, site

NETWORKS = ("ethereum", "bitcoin", "torus")
NEWEST = SNAPSHOT.processing_date
ONE, NOTHING = "a small snapshot", "the same with nothing to do"


def report(versions: list[Version], rounds: int, snapshots: int) -> str:
    """Measure, and return the part of the page; a backfill has so many snapshots, about."""
    days = max(1, snapshots // len(NETWORKS))
    dates = [NEWEST - timedelta(days=before) for before in range(days + rounds + 1)]
    bucket = written(CACHE, "--networks", ",".join(NETWORKS), "--dates", ",".join(map(str, reversed(dates))))
    found, many = Comparison(versions), f"one of {days * len(NETWORKS)} small snapshots in a backfill"
    with site(bucket) as made:
        deployments = [made.deployment(f"v{number}", NETWORKS) for number, _ in enumerate(versions)]
        for number, day in enumerate(dates[: rounds + 1]):
            command = ("run", "--date", str(day), "--network", SNAPSHOT.network, "--scheduler", "local")
            for version, deployment in zip(versions, deployments, strict=True):
                first, again = (made.run(version, deployment, *command) for _ in range(2))
                if number:  # the first makes the tables
                    found.add(ONE, version, first)
                    found.add(NOTHING, version, again)
        span = ("--from", str(dates[-1]), "--to", str(dates[rounds + 1]), "--scheduler", "local")
        for version, deployment in zip(versions, deployments, strict=True):
            found.add(many, version, made.run(version, deployment, "backfill", *span))
    size = sum(path.stat().st_size for path in bucket.rglob("*.parquet")) // (len(dates) * len(NETWORKS))
    return (
        f"Snapshots of {size // 1000} kB from S3, {rounds} rounds, the versions in turn, against one server that has "
        "the tables; one backfill. Statements are ClickHouse's own count (`system.events`).\n\n"
        + found.table({ONE: 1, NOTHING: 1, many: days * len(NETWORKS)})
    )
