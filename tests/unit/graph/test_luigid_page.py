"""What luigid's page says of a failed step."""

from __future__ import annotations

from datetime import date

from pipeline.graph import luigid_page
from pipeline.snapshot import Snapshot

DIGEST = "ab" * 32


def test_a_failure_is_shown_in_short_lines() -> None:
    """The box holds 60 characters a line and does not wrap; a longer command goes on in the next line."""
    snapshot = Snapshot("a_network_with_a_name_as_long_as_this"[:32], date(2025, 8, 1), 30)
    text = luigid_page.failure(snapshot, 195, f"file: SHA256 is {DIGEST}\n  line of a traceback", "ask upstream " * 9)
    assert text.startswith("ask upstream")
    assert max(map(len, text.splitlines())) <= 60
    assert "\n  line of a traceback\n" in text
    command = text.partition("To run it again:\n")[2].replace("\\\n", "").split()
    assert command == f"sot-ingest run --date 2025-08-01 --network {snapshot.network} --window-days 30".split()
