"""Takes screenshots of the report and of luigi's page: scripts/screenshots DIRECTORY [--docs]

Real runs into an embedded ClickHouse make what is on them: ten days of three networks with a superseded day, a day
with few rows, a failed and a missing one. The report is taken at the width of a desk and of a phone, dark, and printed;
luigi's page after a run with a bad file.
``--docs`` writes the two small ones that README shows, too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from pipeline.dates import yesterday
from pipeline.demo import bucket
from pipeline.snapshot import Snapshot
from tests.support.deployment import Deployment, EmbeddedReader, in_directory, selection
from tests.support.luigid import running_luigid
from tests.support.snapshots import SnapshotFiles

DOCS = Path(__file__).parents[2] / "docs"
NETWORKS = ("ethereum", "bitcoin", "torus")
DAYS = 10
ROWS = bucket.Rows.in_proportion_to(200)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")

#: Nothing of a person's profile, nothing from the network, and also as root in a container.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def chromium() -> str:
    """Return the browser's path. Raises UsageError when there is none."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise click.UsageError(f"needs a browser: none of {', '.join(PROGRAMS)} is on PATH")
    return found


def browse(*arguments: str) -> None:
    """Run the browser once."""
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium(), *FLAGS, f"--user-data-dir={profile}", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)


def shoot(url: str, path: Path, *, width: int, height: int, more: tuple[str, ...] = ()) -> None:
    """Take a screenshot."""
    browse(f"--window-size={width},{height}", f"--screenshot={path}", "--virtual-time-budget=8000", *more, url)
    click.echo(path)


def write_days(root: Path) -> tuple[SnapshotFiles, SnapshotFiles]:
    """Write the bucket; return a good day that upstream will publish again, and a bad one."""
    last = yesterday()
    for day in (last - timedelta(days=back) for back in range(DAYS - 1, -1, -1)):
        for network in NETWORKS:
            few = network == "bitcoin" and day == last - timedelta(days=3)
            rows = replace(ROWS, alerts=ROWS.alerts // 4) if few else ROWS
            snapshot = Snapshot(network, day, bucket.WINDOW_DAYS)
            bucket.write_snapshot(root, snapshot, rows=rows, generated_at=datetime.now(UTC))
    good, bad, gone = (
        SnapshotFiles(root, Snapshot(network, last - timedelta(days=back), bucket.WINDOW_DAYS))
        for network, back in (("ethereum", 5), ("torus", 0), ("torus", 6))
    )
    bad.corrupt("raw_alerts", 100)
    gone.manifest_path.unlink()
    return good, bad


def run_days(directory: Path, luigid: int) -> str:
    """Ingest the days, then one of them again, then the bad one through luigid; return the report's URL."""
    good, bad = write_days(directory / "bucket")
    page = directory / "report.html"
    variables = {"REPORT_PATH": str(page), "LOG_FORMAT": "text", "INGESTION_NETWORKS": ",".join(NETWORKS)}
    reader = EmbeddedReader(directory / "warehouse")
    deployment = Deployment(in_directory(directory / "bucket"), reader, directory / "run", variables)
    first = yesterday() - timedelta(days=DAYS - 1)
    days = ["--from", str(first), "--to", str(yesterday())]
    process = deployment.start("sot-ingest", "backfill", *days, "--scheduler", "local", log=sys.stderr.fileno())
    process.communicate()
    good.delete_row("raw_clusters")
    deployment.run(good.snapshot)
    (deployment.directory / "luigi.cfg").write_text(f"[core]\ndefault_scheduler_port = {luigid}\n")
    deployment.command("sot-ingest", "run", *selection(bad.snapshot), "--network", "bitcoin")
    return page.as_uri()


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--docs", is_flag=True, help="Write docs/report.png and docs/luigi.png, too.")
def main(directory: Path, docs: bool) -> None:
    """Write screenshots into DIRECTORY."""
    chromium()
    directory.mkdir(parents=True, exist_ok=True)
    target = directory.resolve()
    with tempfile.TemporaryDirectory() as scratch, running_luigid(Path(scratch) / "luigid") as port:
        url = run_days(Path(scratch), port)
        shoot(url, target / "report-desk.png", width=1280, height=3600)
        dark = ("--blink-settings=preferredColorScheme=0",)
        shoot(url, target / "report-dark.png", width=1280, height=1800, more=dark)
        frame = Path(scratch) / "phone.html"  # a window has a least width, which a frame has not
        frame.write_text(f'<body style="margin:0"><iframe src="{url}" width="390" height="6000" style="border:0">')
        shoot(frame.as_uri(), target / "report-phone.png", width=390, height=6000)
        browse(f"--print-to-pdf={target / 'report-print.pdf'}", "--no-pdf-header-footer", url)
        page = f"http://127.0.0.1:{port}/static/visualiser/index.html"
        shoot(page, target / "luigi.png", width=1280, height=1000)
        if docs:
            shoot(url, DOCS / "report.png", width=1100, height=700)
            shoot(page, DOCS / "luigi.png", width=1100, height=500)


if __name__ == "__main__":
    main()
