"""What a person sees in a terminal: texts that came from elsewhere neither steer it nor end a line."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from pipeline.cli import history, output
from pipeline.operations.history import Attempt
from pipeline.snapshot import Snapshot
from pipeline.warehouse.step_log import StepRecord

HOSTILE = "\x1b[2J\x1b]0;title\x07\u202e\nforged"
ESCAPED = "\\x1b[2J\\x1b]0;title\\x07\\u202e\\nforged"


def test_a_table_escapes_what_cannot_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell is one line of what can be seen."""
    output.print_table(["step"], [[HOSTILE]])
    assert capsys.readouterr().out.split("\n")[1].rstrip() == ESCAPED


def test_causes_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors and hints quote upstream."""
    snapshot, moment = Snapshot("torus", date(2025, 8, 1), 195), datetime(2025, 8, 2, tzinfo=UTC)
    step = StepRecord(snapshot, "LoadTable", "raw_alerts", "failed", moment, 1.0, error=HOSTILE, hint=HOSTILE)
    history._print_causes([Attempt((step,))])  # without a warehouse
    assert capsys.readouterr().out.splitlines()[2:] == [f"  {ESCAPED}"] * 2


HEADINGS = ["date", "network", "state", "alerts", "features", "published (UTC)", "manifest", "next step"]
ROWS = [
    ["2025-08-02", "ethereum", "half done", "-", "-", "-", "-", "DownloadFile raw_alerts, raw_clusters"],
    ["2025-08-01", "torus", "published", "4,000", "20,000", "2025-08-02 01:00", "fd5cdb1804e3", ""],
]
TABLES = {
    80: """
date        network   state      alerts  features  next step
2025-08-02  ethereum  half done       -         -  DownloadFile raw_alerts,
                                                   raw_clusters
2025-08-01  torus     published   4,000    20,000
""",
    100: """
date        network   state      alerts  features  published (UTC)   manifest      next step
2025-08-02  ethereum  half done       -         -  -                 -             DownloadFile
                                                                                   raw_alerts,
                                                                                   raw_clusters
2025-08-01  torus     published   4,000    20,000  2025-08-02 01:00  fd5cdb1804e3
""",
    200: """
date        network   state      alerts  features  published (UTC)   manifest      next step
2025-08-02  ethereum  half done       -         -  -                 -             DownloadFile raw_alerts, raw_clusters
2025-08-01  torus     published   4,000    20,000  2025-08-02 01:00  fd5cdb1804e3
""",
}


@pytest.mark.parametrize("width", TABLES)
def test_a_table_fits_the_terminal(width: int) -> None:
    """Less important columns go first, then prose goes on in the next line; no date or word is broken."""
    optional = ["manifest", "published (UTC)"]
    lines = output.table_lines(HEADINGS, ROWS, width, right=["alerts", "features"], optional=optional)
    shown = [line.plain for line in lines]
    assert shown == TABLES[width].strip("\n").splitlines()
    assert max(map(len, shown)) <= width


def test_in_a_pipe_a_row_is_a_line() -> None:
    """With every column, and nothing is wrapped."""
    rows = [[*ROWS[0][:-1], "word " * 100], ROWS[1]]
    lines = [line.plain for line in output.table_lines(HEADINGS, rows, None, optional=["manifest"])]
    assert len(lines) == 3
    assert lines[1].endswith(("word " * 100).rstrip())


def test_a_long_word_goes_on_after_a_comma_or_a_slash() -> None:
    """Where it has none it is cut: it would not fit any line."""
    text = f"see file:///var/lib/sot-ingest/archive/of/snapshots,raw_alerts {'x' * 60}"
    lines = [line.plain for line in output.table_lines(["found"], [[text]], 20)][1:]
    assert lines == ["see file:///var/lib/", "sot-ingest/archive/", "of/snapshots,", "raw_alerts", *["x" * 20] * 3]


def test_the_last_column_can_be_one_that_goes() -> None:
    """Then nothing is wrapped."""
    headings, row = ["load", "rows", "host"], ["01a22120-4fc5-7646-96a8-687c3a879493", "4,000", "db1.example.org"]
    lines = [line.plain for line in output.table_lines(headings, [row], 50, right=["rows"], optional=["host"])]
    assert lines == [f"load{' ' * 32}   rows", f"{row[0]}  4,000"]
