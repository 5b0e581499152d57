"""One of the processes that read while snapshots are published: asks until it is told to stop, and says what it saw."""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
from base64 import b64encode
from collections import Counter
from itertools import cycle
from pathlib import Path

from tests.torture.oracle import COLUMNS, Key

_TOLD_EVERY = 100  #: reads


def questions(database: str, key: Key) -> dict[str, str]:
    """Return queries by name: each view's count and digest, all of them at once, and a join over all four."""
    digests = {
        table: f"SELECT count(), sum(cityHash64({', '.join(columns)})) FROM {database}.{table} WHERE {key.where}"
        for table, columns in COLUMNS.items()
    }
    at_once = ", ".join(
        f"({query.replace('SELECT ', 'SELECT (').replace(' FROM', ') FROM', 1)})" for query in digests.values()
    )
    where = {alias: f"{alias}.{key.where.replace('AND ', f'AND {alias}.')}" for alias in "facl"}
    joined = f"""
        SELECT count(), sum(cityHash64(f.address, f.pagerank, a.alert_id, l.label, c.total_alerts))
        FROM {database}.raw_features AS f
        LEFT JOIN {database}.raw_alerts AS a ON a.address = f.address AND {where["a"]}
        LEFT JOIN {database}.raw_address_labels AS l ON l.address = f.address AND {where["l"]}
        LEFT JOIN {database}.raw_clusters AS c ON c.primary_address = f.address AND {where["c"]}
        WHERE {where["f"]}
    """
    return {**digests, "at once": f"SELECT {at_once}", "joined": joined}


def main() -> None:
    """Read until SIGTERM; count reads in a file, print the answers that each question had."""
    parser = argparse.ArgumentParser()
    for name in ("port", "user", "password", "database", "network", "day", "counter"):
        parser.add_argument(f"--{name}", required=True)
    chosen = parser.parse_args()
    asked = questions(chosen.database, Key(chosen.network, chosen.day))
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    connection = http.client.HTTPConnection("127.0.0.1", int(chosen.port), timeout=60)
    secret = b64encode(f"{chosen.user}:{chosen.password}".encode()).decode()
    answers: dict[str, Counter[str]] = {name: Counter() for name in asked}
    for number, (name, query) in enumerate(cycle(asked.items()), 1):
        connection.request("POST", "/", body=query.encode(), headers={"Authorization": f"Basic {secret}"})
        answer = connection.getresponse()
        answers[name][answer.read().decode("utf-8", "replace").strip()] += 1
        if number % _TOLD_EVERY == 0:
            Path(chosen.counter).write_text(str(number), "utf-8")
        if stopped:
            break
    json.dump(answers, sys.stdout)
