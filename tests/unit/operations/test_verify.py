"""pipeline.operations.verify: what to do about a day that is another one at the source."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from pipeline.operations import verify
from pipeline.snapshot import Snapshot
from pipeline.warehouse.audit_log import AuditRow
from pipeline.warehouse.publications import Publication

SNAPSHOT = Snapshot("torus", date(2025, 8, 1), 195)
NEW, OLD, OTHER = (f"s3://sot/META.json#{version}" for version in ("new", "old", "other"))
AT = datetime(2025, 8, 2, 3, tzinfo=UTC)
HELD = AuditRow(
    audit="",
    level="",
    outcome="held",
    message="few, many",
    compared_with=[],
    load_ids={},
    row_counts={},
    manifest_sha256="0" * 64,
    source=NEW,
    recorded_at=AT.replace(hour=4),
)

CASES: dict[str, tuple[AuditRow | None, str, str]] = {
    "held": (HELD, f"{NEW}, held by few, many", "sot-ingest accept "),
    "not loaded": (None, NEW, "sot-ingest run "),
    "accepted": (replace(HELD, outcome="accepted"), NEW, "sot-ingest run "),
    "held, of another manifest": (replace(HELD, source=OTHER), NEW, "sot-ingest run "),
    "held before it was published": (replace(HELD, recorded_at=AT.replace(hour=2)), NEW, "sot-ingest run "),
}


@pytest.mark.parametrize("case", CASES)
def test_a_newer_manifest_that_is_held_is_to_be_accepted(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """A run would load nothing: it asks the audits once more."""
    verdict, found, command = CASES[case]
    monkeypatch.setattr(verify, "newest_verdicts", lambda *_: {SNAPSHOT: verdict} if verdict else {})
    source = Mock()
    source.is_current.side_effect = lambda _, known: NEW in known
    source.manifest_uri.return_value = NEW
    context: Any = SimpleNamespace(source=source, warehouse=lambda _: None)
    seen: Any = Mock(spec=Publication, source=OLD, manifest_sha256="1" * 64, published_at=AT, load_ids={})
    monkeypatch.setattr(verify, "effective_publications", lambda *_: [seen])
    (finding,) = verify._of_source(context, SNAPSHOT, [seen])
    assert (finding.kind, finding.found, finding.expected) == ("superseded upstream", found, OLD)
    assert command in finding.hint
