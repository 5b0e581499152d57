"""One of the processes that read while snapshots are published: asks until it is told to stop, and says what it saw."""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from tests.torture.oracle import COLUMNS, Key

_TOLD_EVERY = 100  #: reads


#: How often a reader asks each kind of question in turn; a count takes a tenth of what a join does.
OFTEN = {"count": 5, "digest": 1, "at once": 1, "joined": 1}


#: The views that show the same to a reader of the present: what is published, and as of a moment that is to come.
SUFFIXES = ("", "_as_of(at = '2100-01-01 00:00:00')")


def questions(database: str, key: Key, suffix: str) -> dict[str, str]:
    """Return queries by name: each view's count and digest, all counts at once, and a join over all four."""
    asked = {}
    for table, columns in COLUMNS.items():
        asked[f"count {table}"] = f"SELECT count() FROM {database}.{table}{suffix} WHERE {key.where}"
        digest = f"sum(cityHash64({', '.join(list(columns)[:12])}))"
        asked[f"digest {table}"] = f"SELECT count(), {digest} FROM {database}.{table}{suffix} WHERE {key.where}"
    at_once = ", ".join(f"({query})" for name, query in asked.items() if name.startswith("count"))
    where = {alias: f"{alias}.{key.where.replace('AND ', f'AND {alias}.')}" for alias in "facl"}
    joined = f"""
        SELECT count(), sum(cityHash64(f.address, f.pagerank, a.alert_id, l.label, c.total_alerts))
        FROM {database}.raw_features{suffix} AS f
        LEFT JOIN {database}.raw_alerts{suffix} AS a ON a.address = f.address AND {where["a"]}
        LEFT JOIN {database}.raw_address_labels{suffix} AS l ON l.address = f.address AND {where["l"]}
        LEFT JOIN {database}.raw_clusters{suffix} AS c ON c.primary_address = f.address AND {where["c"]}
        WHERE {where["f"]}
    """
    return {**asked, "at once": f"SELECT {at_once}", "joined": joined}


def in_turn(asked: Sequence[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the questions for ever, each kind as often as it shall be, of each set of views in turn."""
    for number in count():
        for name, query in asked[number % len(asked)].items():
            kind = name.partition(" raw_")[0]
            if number % (max(OFTEN.values()) // OFTEN[kind]) == 0:
                yield name, query


def main() -> None:
    """Read until SIGTERM; count reads in a file, print the answers that each question had."""
    parser = argparse.ArgumentParser()
    for name in ("port", "user", "password", "database", "network", "day", "counter"):
        parser.add_argument(f"--{name}", required=True)
    chosen = parser.parse_args()
    asked = [questions(chosen.database, Key(chosen.network, chosen.day), suffix) for suffix in SUFFIXES]
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    connection = http.client.HTTPConnection("127.0.0.1", int(chosen.port), timeout=60)
    secret = b64encode(f"{chosen.user}:{chosen.password}".encode()).decode()
    answers: dict[str, Counter[str]] = {name: Counter() for name in asked[0]}
    for number, (name, query) in enumerate(in_turn(asked), 1):
        connection.request("POST", "/", body=query.encode(), headers={"Authorization": f"Basic {secret}"})
        answer = connection.getresponse()
        answers[name][answer.read().decode("utf-8", "replace").strip()] += 1
        if number % _TOLD_EVERY == 0:
            Path(chosen.counter).write_text(str(number), "utf-8")
        if stopped:
            break
    json.dump(answers, sys.stdout)
