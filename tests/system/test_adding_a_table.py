"""docs/adding-a-table.md: what it says is all that a fifth table takes."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pyarrow as pa

from tests.support.clickhouse import ROOT
from tests.support.deployment import Deployment, EmbeddedReader, in_directory, selection
from tests.support.snapshots import Bucket

PAGE = (ROOT / "docs" / "adding-a-table.md").read_text("utf-8")


def example(label: str) -> str:
    """Return the page's example under a label."""
    (text,) = re.findall(rf"^~~~{label}\n(.*?)^~~~$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def test_a_table_that_is_added_as_the_page_says_is_ingested(tmp_path: Path) -> None:
    """In a copy of the pipeline: the file is asked for, loaded, published with the others, and verified."""
    copy = tmp_path / "copy" / "pipeline"
    shutil.copytree(ROOT / "pipeline", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "schema" / "raw_patterns_loads.sql").write_text(example("sql"))
    tables = (copy / "tables.py").read_text("utf-8")
    begin = "TABLES: tuple[Table, ...] = (\n"
    assert begin in tables
    (copy / "tables.py").write_text(tables.replace(begin, begin + example("text")))
    files = Bucket(tmp_path / "bucket").snapshot()
    files.names["raw_patterns"] = "patterns.parquet"
    files.edit_manifest(lambda meta: meta["sha256"].update({"patterns.parquet": ""}))
    files.replace_table("raw_patterns", pa.table({"pattern_id": ["a", "b"], "score": [0.5, 1.0]}))

    deployment = Deployment(
        in_directory(files.root),
        EmbeddedReader(tmp_path / "warehouse"),
        tmp_path / "run",
        {"INGESTION_NETWORKS": "torus"},
    )
    deployment.variables["PYTHONPATH"] = str(copy.parent)
    command = [sys.executable, "-c", "from pipeline.cli import main; main()"]
    ran = deployment.command(*command, "run", *selection(files.snapshot), "--scheduler", "local")

    assert ran.exit_code == 0, ran.stderr
    found = deployment.query(
        "torus", "SELECT pattern_id, score, window_days FROM {db}.raw_patterns ORDER BY pattern_id"
    )
    assert found == [("a", 0.5, 195), ("b", 1.0, 195)]
    deployment.assert_readers_see(files)
    verified = deployment.command(*command, "verify", "--date", files.snapshot.processing_date.isoformat())
    assert verified.exit_code == 0, verified.stdout
    assert deployment.published(files.snapshot).keys() >= {"raw_patterns", "raw_alerts"}
