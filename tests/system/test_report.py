"""``sot-ingest report``: the page of what runs did, from the warehouse to the file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.deployment import Deployment, EmbeddedReader, in_directory
from tests.support.html_page import Page
from tests.support.snapshots import Bucket


def test_the_command_writes_what_was_done(tmp_path: Path) -> None:
    """A published and a failed day, from real runs; the file is replaced whole, and - is stdout.

    A run writes the page itself where REPORT_PATH says, however it ended.
    """
    bucket = Bucket(tmp_path / "bucket")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    good, bad = bucket.snapshot("torus", yesterday), bucket.snapshot("torus", yesterday - timedelta(days=1))
    bad.corrupt("raw_alerts", 100)
    by_run = tmp_path / "www" / "by-run.html"
    networks = {"INGESTION_NETWORKS": "torus", "REPORT_PATH": str(by_run)}
    reader = EmbeddedReader(tmp_path / "warehouse")
    deployment = Deployment(in_directory(bucket.root), reader, tmp_path / "run", networks)
    assert deployment.run(good.snapshot).exit_code == 0
    assert "the manifest says" not in by_run.read_text("utf-8")
    assert deployment.run(bad.snapshot).exit_code == 30
    assert "the manifest says" in by_run.read_text("utf-8")
    path = tmp_path / "report.html"
    path.write_text("before")
    result = deployment.command("sot-ingest", "report", "--html", str(path), "--days", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    page = Page(path.read_text("utf-8"))
    assert path.stat().st_mode & 0o777 == 0o644
    (days,) = (table for table in page.root.all("table") if table.attributes.get("aria-label") == "Days of torus")
    _, *found = (" ".join(row.text.split()) for row in days.all("tr"))
    assert [row[:10] for row in found] == [str(yesterday - timedelta(days=back)) for back in range(3)]
    assert "published" in found[0]
    assert "failed" in found[1]
    assert "the manifest says" in found[1]
    assert "before the first" in found[2]
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report.html"]
    result = deployment.command("sot-ingest", "report", "--html", "-", "--days", "1")
    assert list(Page(result.stdout).root.all("main"))
    said = json.loads(deployment.command("sot-ingest", "report", "--json", "--days", "2").stdout)
    assert [day["state"] for day in said] == ["published", "failed"]
    other = ("--window-days", "30", "--network", "torus")
    said = json.loads(deployment.command("sot-ingest", "report", "--json", "--days", "2", *other).stdout)
    assert [(day["network"], day["window_days"], day["state"]) for day in said] == [
        ("torus", 30, "before the first")
    ] * 2
    assert deployment.command("sot-ingest", "report").exit_code == 2
