"""pipeline.runs.accept: what comes of an acceptance that cannot be finished."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner

from pipeline.cli.accept import command
from pipeline.errors import (
    HeldError,
    PipelineError,
    RequestError,
    SourceError,
    SourceUnavailableError,
    WarehouseError,
    WarehouseUnavailableError,
)
from pipeline.operations.accept import HeldSnapshot, find_held
from pipeline.runs import accept, lifecycle
from pipeline.snapshot import Snapshot
from pipeline.warehouse.audit_log import AuditRow

SNAPSHOT = Snapshot("torus", date(2025, 8, 1), 195)
WANTED = accept.Wanted(SNAPSHOT, ["few"], "it was quiet")
VERDICT = AuditRow(
    audit="",
    level="",
    outcome="held",
    message="few, many",
    compared_with=[],
    load_ids={},
    row_counts={},
    manifest_sha256="0" * 64,
    source="s3://sot/META.json#1",
)


def raising(error: PipelineError) -> Callable[..., NoReturn]:
    """Return a function that raises."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def accepting(monkeypatch: pytest.MonkeyPatch, **steps: Callable[..., Any]) -> tuple[int, accept.Accepted]:
    """Accept one of two audits, with other functions for the steps; return the exit code and what came of it."""
    rows = [AuditRow(**{**vars(VERDICT), "audit": name}) for name in ("few", "many")]
    held = HeldSnapshot(SNAPSHOT, VERDICT, rows, frozenset())
    usual: dict[str, Callable[..., Any]] = {"lock_snapshot": lambda *_, **__: 0, "find_held": lambda *_: held}
    for name, function in {**usual, **steps}.items():
        monkeypatch.setattr(accept, name, function)
    shared: Any = SimpleNamespace(ownership=SimpleNamespace(release=lambda _: None))
    accepted = accept.Accepted()
    return accept._accept(shared, WANTED, accepted), accepted


def test_the_run_is_about_a_list_of_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the log, messages and pings expect it."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(lifecycle, "run_with_lifecycle", lambda _, facts: told.update(facts) or 0)
    accept.accept_snapshot(WANTED)
    assert told == {"date": "2025-08-01", "networks": ["torus"]}


@pytest.mark.parametrize("kind", [SourceError, SourceUnavailableError, WarehouseError, WarehouseUnavailableError])
def test_what_is_held_may_be_unknown(monkeypatch: pytest.MonkeyPatch, kind: type[PipelineError]) -> None:
    """Where source or warehouse do not answer, or refuse us, no step failed."""
    code, accepted = accepting(monkeypatch, find_held=raising(kind("gone", hint="wait")))
    assert (code, accepted.audits) == (35, ())


@pytest.mark.parametrize(("kind", "code"), [(WarehouseUnavailableError, 35), (WarehouseError, 30), (RequestError, 30)])
def test_a_publication_that_fails_has_the_code_of_its_error(
    monkeypatch: pytest.MonkeyPatch, kind: type[PipelineError], code: int
) -> None:
    """What was accepted before is told nevertheless."""
    publish = raising(kind("gone", hint="wait"))
    found, accepted = accepting(monkeypatch, _record=lambda *_: None, _publish=publish)
    assert (found, accepted.audits, accepted.publication) == (code, ["few"], None)


def test_a_partial_acceptance_names_what_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another audit holds the snapshot still."""
    code, accepted = accepting(monkeypatch, _record=raising(HeldError("held by many: 9", hint="accept")))
    assert (code, accepted.audits, accepted.publication) == (30, ["few"], None)


@pytest.mark.parametrize("reason", ["", " ", "…", "'…'", "--"])
def test_a_reason_has_words(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """What hints print in its place is none."""
    for name, value in {"SOT_PATH": "/", "WAREHOUSE_PATH": "/", "INGESTION_NETWORKS": "torus"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(command, ["--date", "2025-08-01", "--network", "torus", f"--reason={reason}"])
    assert (result.exit_code, "expected why the snapshot is right" in " ".join(result.output.split())) == (2, True)


@pytest.mark.parametrize(
    ("is_current", "manifest", "said"),
    [(True, None, "has withdrawn"), (False, object(), "has published another manifest"), (True, object(), "")],
)
def test_what_upstream_has_no_more_is_not_accepted(
    monkeypatch: pytest.MonkeyPatch, is_current: bool, manifest: object | None, said: str
) -> None:
    """Neither another manifest nor none at all: the source answers, and what is held is not there."""
    for name, answer in {"audit_rows": [VERDICT], "newest_publication": None}.items():
        monkeypatch.setattr(f"pipeline.operations.accept.{name}", lambda *_, answer=answer: answer)
    monkeypatch.setattr("pipeline.operations.accept.ledger.proven_loads", lambda *_, **__: {})
    source = SimpleNamespace(is_current=lambda *_: is_current, peek=lambda _: manifest)
    context: Any = SimpleNamespace(warehouse=lambda _: None, source=source)
    if not said:
        assert isinstance(find_held(context, SNAPSHOT), HeldSnapshot)
        return
    with pytest.raises(RequestError, match=said):
        find_held(context, SNAPSHOT)
