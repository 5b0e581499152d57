"""Measures how much memory the pipeline's own processes take, on a small and on a large features file.

    scripts/bench-memory [--rows 900000] [--factor 3] [--source directory --source S3 --source SOT]

900,000 rows of the demo are the 360 MB of a large day. Every file is ingested from a directory and from S3 over HTTP
into a real ClickHouse server, each time into a new database; or as many rows, which a second server makes up, are
ingested from that one as the SOT ClickHouse. Memory is sampled every 50 ms over the command and all
that it forked: USS, what only this process holds, summed; and PSS, which counts shared pages in equal shares, the
interpreter and its libraries among them. Neither the server's memory counts nor the page cache. The files stay in
.cache/bench-memory.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
from rich.console import Console
from rich.table import Table

from pipeline.demo import bucket
from tests.support.clickhouse import ROOT, OwnClickHouse
from tests.support.deployment import Deployment, ServerReader, a_day, in_bucket, in_directory, selection
from tests.support.snapshots import contract
from tests.support.sot import Sot

CACHE = ROOT / ".cache" / "bench-memory"
SNAPSHOT = a_day()
SECONDS_BETWEEN = 0.05
STEPS = ("ExportTable", "DownloadFile", "ValidateFile", "ValidateChecksum", "LoadTable", "PublishSnapshot")
MB = 1_000_000


@dataclass
class Measured:
    """One run."""

    source: str
    file_bytes: int = 0  #: of the features
    seconds: float = 0
    uss: int = 0  #: bytes, the highest sum
    pss: int = 0  #: bytes, the highest sum
    samples: int = 0
    steps: dict[str, float] = field(default_factory=lambda: defaultdict(float))  #: seconds, summed over tables


def written(cache: Path, *options: str) -> Path:
    """Return a demo bucket below ``cache``; written once, and again when what writes it has changed."""
    writer = b"".join(path.read_bytes() for path in sorted(Path(bucket.__file__).parent.glob("*.py")))
    path = cache / hashlib.sha256(writer + "\0".join(options).encode()).hexdigest()[:16]
    if not (path / "complete").exists():
        click.echo(f"writing {path.relative_to(ROOT)}: {' '.join(options)} …", err=True)
        command = (sys.executable, "-m", "pipeline.demo", str(path), *options)
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        (path / "complete").touch()
    return path


def demo_bucket(rows: int) -> Path:
    """Return a bucket with so many features rows and little else."""
    others = ("--alerts", "1000", "--clusters", "1000", "--address-labels", "1000")
    which = ("--networks", SNAPSHOT.network, "--dates", SNAPSHOT.processing_date.isoformat())
    return written(CACHE, *which, "--features", str(rows), *others)


@contextmanager
def served(path: Path) -> Iterator[str]:
    """Serve a bucket as S3 from a process of its own; yield its URL."""
    command = (sys.executable, "-m", "tests.support.static_s3", str(path))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip() if server.stdout else ""
        finally:
            server.terminate()


def memory(root: psutil.Process) -> tuple[int, int]:
    """Return USS and PSS in bytes, summed over a process and its children."""
    uss = pss = 0
    try:
        for process in (root, *root.children(recursive=True)):
            try:
                found = process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended just now
                continue
            uss, pss = uss + found.uss, pss + getattr(found, "pss", 0)  # PSS: Linux only
    except psutil.NoSuchProcess:
        pass
    return uss, pss


def measure(deployment: Deployment, measured: Measured) -> Measured:
    """Ingest the snapshot and fill in what was measured. Exits when the run fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        command = ("sot-ingest", "run", *selection(SNAPSHOT), "--scheduler", "local")
        running = subprocess.Popen(
            command, env=deployment.environment, cwd=deployment.directory, stdin=subprocess.DEVNULL, stderr=log
        )
        process = psutil.Process(running.pid)
        while running.poll() is None:
            uss, pss = memory(process)
            measured.uss, measured.pss = max(measured.uss, uss), max(measured.pss, pss)
            measured.samples += 1
            time.sleep(SECONDS_BETWEEN)
        measured.seconds = time.monotonic() - started
        log.seek(0)
        text = log.read()
    if running.returncode:
        raise click.ClickException(f"the run ended with {running.returncode}:\n{text}")
    for event in map(json.loads, text.splitlines()):
        if "step" in event and "seconds" in event:
            measured.steps[event["step"]] += event["seconds"]
        if event["message"] == "Downloaded file" and event["table"] == "raw_features":
            measured.file_bytes = event["bytes"]
    return measured


def print_table(found: list[Measured]) -> None:
    """Print the runs, and for each source how the peak of the last compares with that of the first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "features MB", "peak USS MB", "peak PSS MB", "samples", "seconds", *STEPS):
        table.add_column(heading, justify="left" if heading == "source" else "right", no_wrap=True)
    for run in found:
        peaks = (f"{run.uss / MB:.1f}", f"{run.pss / MB:.1f}", str(run.samples), f"{run.seconds:.1f}")
        seconds = (f"{run.steps[step]:.1f}" for step in STEPS)
        table.add_row(run.source, f"{run.file_bytes / MB:.0f}", *peaks, *seconds)
    Console(width=200).print(table)
    for source in dict.fromkeys(run.source for run in found):
        first, *_, last = (run for run in found if run.source == source)
        ratio = f"USS × {last.uss / first.uss:.2f}" + (f", PSS × {last.pss / first.pss:.2f}" if first.pss else "")
        click.echo(f"{source}: file × {last.file_bytes / first.file_bytes:.2f}, peak {ratio}")


@contextmanager
def source(name: str, rows: int, directory: Path) -> Iterator[Mapping[str, str]]:
    """Yield the variables of a source of this kind with so many features rows."""
    if name == "directory":
        yield in_directory(demo_bucket(rows))
    elif name == "S3":
        with served(demo_bucket(rows)) as url:
            yield {**in_bucket("bench", url), "SOT_S3_ANONYMOUS": "true"}
    else:
        with OwnClickHouse(directory) as server:
            click.echo(f"making up {rows} rows in the SOT ClickHouse …", err=True)
            sot = Sot(server, "sot")
            sot.fill_with(SNAPSHOT, {table: rows if table == "raw_features" else 1000 for table in contract()})
            yield sot.variables()


@click.command()
@click.option("--rows", type=click.IntRange(1), default=900_000, show_default=True, help="Features rows of the first.")
@click.option(
    "--factor", type=click.IntRange(2), default=3, show_default=True, help="How many times as large: the last."
)
@click.option(
    "--source",
    "sources",
    type=click.Choice(["directory", "S3", "SOT"], case_sensitive=False),
    multiple=True,
    default=("directory", "S3"),
    show_default=True,
    help="Where from; can be given several times.",
)
def main(rows: int, factor: int, sources: tuple[str, ...]) -> None:
    """Measure the memory of the pipeline's own processes as files grow."""
    found: list[Measured] = []
    with ExitStack() as stack:
        CACHE.mkdir(parents=True, exist_ok=True)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=CACHE)))
        server = stack.enter_context(OwnClickHouse(directory / "clickhouse"))
        for name in sources:
            for count in (rows, rows * factor):
                run = f"run_{len(found)}_"
                with source(name, count, directory / f"{run}source") as variables:
                    reader = ServerReader(server, run, (SNAPSHOT.network,))
                    found.append(measure(Deployment(variables, reader, directory / run), Measured(name)))
                server.http(f"DROP DATABASE {run}{SNAPSHOT.network} SYNC")
    print_table(found)


if __name__ == "__main__":
    main()
