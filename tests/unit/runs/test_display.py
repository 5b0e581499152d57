"""What a terminal shows of a run: what runs now, how far the whole is, and a sum that stays."""

from __future__ import annotations

import pytest

from pipeline.graph.progress import Progress
from pipeline.runs.display import Board

TORUS, BITCOIN, ETHEREUM = "torus 2025-08-01", "bitcoin 2025-08-01", "ethereum 2025-08-01"
STEPS = 20


def board() -> Board:
    """Return what is known 60 s after the start: one network is published, one downloads, one loads."""
    made = Board(3, STEPS, started=0.0)
    for step in ("DownloadManifest", "DownloadFile raw_alerts", "PublishSnapshot", "CleanUp"):
        made.take(Progress(BITCOIN, step, "running", 10_400_000, 10_400_000), 1.0)
        made.take(Progress(BITCOIN, step, "done"), 2.0)
    for number in range(10):
        made.take(Progress(TORUS, f"step {number}", "done"), 30.0)
    made.take(Progress(ETHEREUM, "DownloadFile raw_address_labels", "running", 12_300_000, 27_000_000), 50.0)
    made.take(Progress(TORUS, "LoadTable raw_features", "running", 123_400_000, 360_000_000, "1 of 3 rows"), 48.0)
    made.take(Progress(TORUS, "LoadTable raw_alerts", "running", 600_000, 600_000, "counting 4,000 rows"), 57.0)
    made.take(Progress(ETHEREUM, "ValidateFile raw_features", "running"), 59.0)
    return made


SHOWN = {
    80: """
ethereum 2025-08-01 DownloadFile address_labels  ━━━━╌╌╌╌  12.3 of 27.0 MB  10 s
torus 2025-08-01 LoadTable features              ━━╌╌╌╌  123.4 of 360.0 MB  12 s
torus 2025-08-01 LoadTable alerts                counting 4,000 rows  3 s
ethereum 2025-08-01 ValidateFile features        1 s
1 of 3 snapshots  ━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  50 %  1.5/min  1 min 00 s left
""",
    100: """
ethereum 2025-08-01 DownloadFile address_labels  ━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  12.3 of 27.0 MB  10 s
torus 2025-08-01 LoadTable features              ━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  123.4 of 360.0 MB  12 s
torus 2025-08-01 LoadTable alerts                counting 4,000 rows  3 s
ethereum 2025-08-01 ValidateFile features        1 s
1 of 3 snapshots  ━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  50 %  1.5/min  1 min 00 s left
""",
    200: """
ethereum 2025-08-01 DownloadFile address_labels  ━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  12.3 of 27.0 MB  10 s
torus 2025-08-01 LoadTable features              ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  123.4 of 360.0 MB  12 s
torus 2025-08-01 LoadTable alerts                counting 4,000 rows  3 s
ethereum 2025-08-01 ValidateFile features        1 s
1 of 3 snapshots  ━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  50 %  1.5/min  1 min 00 s left
""",
}


@pytest.mark.parametrize("width", SHOWN)
def test_what_runs_and_the_whole_are_a_line_each(width: int) -> None:
    """What was done is gone, a load that is sent is counted, and the last line is the whole with rate and time left."""
    shown = [line.plain for line in board().lines(width, 24, 60.0)]
    assert shown == SHOWN[width].strip("\n").splitlines()
    assert max(map(len, shown)) <= width


def test_it_fits_the_terminals_height() -> None:
    """The whole is seen, whatever runs."""
    shown = [line.plain for line in board().lines(80, 5, 60.0)]
    assert len(shown) == 4
    assert shown[2] == "and 2 more"
    assert shown[3].startswith("1 of 3 snapshots")


def test_the_summary_says_what_became_of_all() -> None:
    """Also of those that nothing was done for, and where nothing was to be done."""
    made = board()
    assert (
        made.summary(60.0) == "3 snapshots in 1 min 00 s: 1 published, 1 half done, 1 not touched; 10.4 MB downloaded"
    )
    made.take(Progress(TORUS, "LoadTable raw_alerts", "failed"), 61.0)
    made.take(Progress(ETHEREUM, "FindSnapshot", "missing"), 61.0)
    assert made.summary(8_000.0).startswith("3 snapshots in 2 h 13 min: 1 published, 1 failed, 1 not at the source;")
    assert made.fraction == 1.0
    assert Board(1, STEPS, started=0.0).summary(0.4) == "1 snapshot in 0 s: nothing was to be done"
