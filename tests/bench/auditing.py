"""The part "what audits cost": of the second of two days, beside its load, and each packaged audit alone."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta

from pydantic import SecretStr

from pipeline.audits.catalogue import ChosenAudit, load_catalogue
from pipeline.audits.runner import Candidate, ask_audits
from pipeline.clickhouse import ClickHouse
from pipeline.settings import ServerAddress
from pipeline.warehouse import ROLE
from pipeline.warehouse.nearest import nearest_days
from pipeline.warehouse.server import ServerWarehouse
from tests.bench.cost import Spread
from tests.bench.rig import SNAPSHOT, Files, Rig, rig, s3_server
from tests.bench.ways import run
from tests.support.pages import table

SECOND = replace(SNAPSHOT, processing_date=SNAPSHOT.processing_date + timedelta(1))
STEPS = ("LoadTable", "AuditSnapshot")
AUDITS = load_catalogue(None, [SNAPSHOT.network]).chosen(SNAPSHOT.network)


def report(features: int, rounds: int) -> str:
    """Measure, and return the part of the page."""
    files = Files.of(features, days=2)
    steps: dict[str, list[float]] = defaultdict(list)
    wall: dict[str, list[float]] = defaultdict(list)
    server: dict[str, list[float]] = defaultdict(list)
    for number in range(1, rounds + 1):
        with s3_server(files) as url, rig(files, url) as made:
            run(made, SNAPSHOT)
            cost = run(made, SECOND)
            for step in STEPS:
                steps[step].append(cost.parts[step])
            for each in AUDITS:
                seconds, cpu = _ask(made, each)
                wall[each.name].append(seconds)
                server[each.name].append(cpu)
        sys.stderr.write(f"round {number}: {[(step, round(taken[-1], 2)) for step, taken in steps.items()]}\n")
    return _text(features, steps, wall, server)


def _ask(made: Rig, audit: ChosenAudit) -> tuple[float, float]:
    """Return how long an audit of the second day takes, and the server's CPU for it, in seconds."""
    address = ServerAddress(made.server.host, made.server.port, made.server.http_port)
    client = ClickHouse(address, made.server.user, SecretStr(made.server.password), secure=False, role=ROLE)
    warehouse = ServerWarehouse(client, SNAPSHOT.network, SNAPSHOT.window_days)
    later = replace(SECOND, processing_date=SECOND.processing_date + timedelta(1))
    second, first = nearest_days(warehouse, later, 2)
    candidate = Candidate(SECOND, second.load_ids, second.row_counts, [first])
    before, started = made.process.cpu_times(), time.perf_counter()
    list(ask_audits(warehouse, candidate, [audit]))
    seconds, after = time.perf_counter() - started, made.process.cpu_times()
    return seconds, after.user - before.user + after.system - before.system


def _text(
    features: int, steps: dict[str, list[float]], wall: dict[str, list[float]], server: dict[str, list[float]]
) -> str:
    load, audit = (Spread(tuple(steps[step])) for step in STEPS)
    shares = Spread(tuple(100 * taken / loaded for loaded, taken in zip(steps[STEPS[0]], steps[STEPS[1]], strict=True)))
    text = (
        f"The second of two days with {features:,} features rows each, by `sot-ingest run`: AuditSnapshot takes "
        f"{audit.text(2)} s, LoadTable {load.text(2)} s; {shares.text(0)} %. Below, each audit alone, on the same "
        "server afterwards."
    )
    rows = [
        (name, Spread(tuple(taken)).text(3), f"{Spread(tuple(server[name])).median:.2f}")
        for name, taken in sorted(wall.items(), key=lambda item: -Spread(tuple(item[1])).median)
    ]
    sums = [Spread(tuple(map(sum, zip(*taken.values(), strict=True)))) for taken in (wall, server)]
    rows.append(("all", sums[0].text(3), f"{sums[1].median:.2f}"))
    return f"{text}\n\n{table(('audit', 's', 'server CPU s'), rows)}"
