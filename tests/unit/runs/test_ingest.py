"""A run of many networks is several for luigi."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.graph.context import Context
from pipeline.runs import ingest
from pipeline.settings import Settings
from tests.support.deployment import a_day


def test_many_networks_are_given_to_luigi_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network once, in their order; the exit code is the worst of all parts."""
    parts: list[list[str]] = []

    def run_task(_: Context, task: Sequence[str], *_more: object) -> int:
        parts.append(json.loads(task[-1]))
        return (0, 30, 0)[len(parts) - 1]

    monkeypatch.setattr(ingest, "run_task", run_task)
    networks = [f"n{number}" for number in range(201)]
    context = Context(Settings.model_validate({"WAREHOUSE_PATH": Path()}))
    snapshots = [a_day(network=network) for network in networks]
    assert ingest._ingest_as_they_come(context, snapshots, None, "local", 0) == 30
    assert [len(part) for part in parts] == [100, 100, 1]
    assert [network for part in parts for network in part] == networks
