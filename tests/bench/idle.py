"""The part "when there is nothing to do": a run over three networks whose day is published, what it imports, and a
backfill over all days of a window.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.tables import PUBLICATIONS
from tests.bench.cost import MB, Cost, Spread, cost_of
from tests.bench.memory import served
from tests.bench.rig import CACHE, SNAPSHOT
from tests.support.clickhouse import ROOT, OwnClickHouse
from tests.support.deployment import Deployment, ServerReader, in_bucket
from tests.support.pages import table

NETWORKS = ("ethereum", "bitcoin", "torus")
DAYS = 195  #: of the backfill
NAMED_ABOVE = 0.02  #: seconds
_LINE = re.compile(r"import time: +(\d+) \| +\d+ \| +([\w.]+)$", re.MULTILINE)


def report(rounds: int) -> str:
    """Measure, and return the part of the page."""
    with TemporaryDirectory(dir=CACHE, prefix="idle-") as name:
        directory = Path(name)
        _write_bucket(directory / "bucket")
        with served(directory / "bucket") as url, OwnClickHouse(directory / "clickhouse") as server:
            source = {**in_bucket("bench", url), "SOT_S3_ANONYMOUS": "true"}
            deployment = Deployment(source, ServerReader(server, "", NETWORKS), directory / "run")
            command = ("sot-ingest", "run", "--date", SNAPSHOT.processing_date.isoformat(), "--scheduler", "local")
            _run(deployment, command)
            memory = _run(deployment, command, watched=True).client_bytes
            costs = [_run(deployment, command) for _ in range(2 * rounds)]
            imports = _imports(deployment, command)
            _publish_days_before(server)
            last = SNAPSHOT.processing_date
            days = ("--from", (last - timedelta(days=DAYS - 1)).isoformat(), "--to", last.isoformat())
            backfills = [
                _run(deployment, ("sot-ingest", "backfill", *days, "--scheduler", "local")) for _ in range(rounds)
            ]
    return _text(costs, memory, imports, backfills)


def _publish_days_before(server: OwnClickHouse) -> None:
    """Let readers see the same loads on all days before, so that a backfill finds everything there."""
    for network in NETWORKS:
        server.execute(
            f"INSERT INTO {network}.{PUBLICATIONS} "
            "SELECT * EXCEPT (number) "
            "REPLACE (processing_date - number AS processing_date, generateUUIDv7() AS publication_id) "
            f"FROM {network}.{PUBLICATIONS} CROSS JOIN numbers(1, {DAYS - 1}) AS before"
        )


def _write_bucket(path: Path) -> None:
    which = ("--networks", ",".join(NETWORKS), "--dates", SNAPSHOT.processing_date.isoformat())
    command = (sys.executable, "-m", "pipeline.demo", str(path), *which)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _run(deployment: Deployment, command: tuple[str, ...], *, watched: bool = False) -> Cost:
    return cost_of(command, environment=deployment.environment, directory=deployment.directory, watched=watched)


def _imports(deployment: Deployment, command: tuple[str, ...]) -> dict[str, float]:
    """Return the seconds that each package took to import, itself alone."""
    environment = {**deployment.environment, "PYTHONPROFILEIMPORTTIME": "1"}
    text = cost_of(command, environment=environment, directory=deployment.directory).stderr
    found: dict[str, float] = defaultdict(float)
    for microseconds, module in _LINE.findall(text):
        root = module.partition(".")[0].lstrip("_")
        found["the standard library" if root in sys.stdlib_module_names else root] += int(microseconds) / 1_000_000
    return found


def _text(costs: list[Cost], memory: int, imports: dict[str, float], backfills: list[Cost]) -> str:
    wall, cpu = (Spread(tuple(values)) for values in zip(*((c.seconds, c.client_cpu) for c in costs), strict=True))
    total = sum(imports.values())
    named = sorted(((s, name) for name, s in imports.items() if s >= NAMED_ABOVE), reverse=True)
    rows = [(name, f"{1000 * seconds:.0f}") for seconds, name in named]
    rows.append(("all imports", f"{1000 * total:.0f}"))
    return "\n\n".join(
        [
            f"`sot-ingest run` for {len(NETWORKS)} networks that are all published: {wall.text(2)} s of wall time, "
            f"{cpu.text(2)} s of CPU, {memory / MB:.0f} MB. Of one run, what the "
            "imports took (with the clock of `-X importtime`, which slows them down):",
            table(("package", "ms"), rows),
            f"A backfill over {DAYS} days of {len(NETWORKS)} networks, {DAYS * len(NETWORKS)} snapshots "
            f"that are all published: {Spread(tuple(cost.seconds for cost in backfills)).text(2)} s of wall time; one "
            "query a network.",
        ]
    )
