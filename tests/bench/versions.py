"""This version of the pipeline beside another one: the same commands, in turn, within one run."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import psutil

from tests.bench.cost import Cost, Spread, cost_of
from tests.bench.memory import served
from tests.bench.rig import CACHE
from tests.bench.ways import BEGIN, END, with_steps
from tests.support.clickhouse import ROOT, OwnClickHouse
from tests.support.deployment import Deployment, ServerReader, in_bucket
from tests.support.pages import table

COUNTERS = {"Query": "statements", "SelectQuery": "of them SELECT", "InsertQuery": "of them INSERT"}
PARTS = {BEGIN: "s to the first step", END: "s after the last step"}
_COMMAND = "import sys; sys.argv[0] = 'sot-ingest'; from pipeline.cli import main; main()"


@dataclass(frozen=True)
class Version:
    """A checkout of the project; it runs with the packages of this one."""

    title: str
    root: Path  #: of the package ``pipeline``


def versions(against: str | None) -> list[Version]:
    """Return this version, after that of a directory or a commit. Raises BadParameter when that is neither."""
    this = Version("this version", ROOT)
    if against is None:
        return [this]
    if Path(against).is_dir():
        root = Path(against).absolute()
    else:
        commit = _git("rev-parse", "--verify", f"{against}^{{commit}}").decode().strip()
        root = CACHE / f"version-{commit}"
        with tarfile.open(fileobj=BytesIO(_git("archive", commit, "pipeline"))) as archive:
            archive.extractall(root, filter="data")
    if not (root / "pipeline").is_dir():
        raise click.BadParameter(f"--against: {root} has no package pipeline")
    return [Version(Path(against).name, root), this]


def _git(*arguments: str) -> bytes:
    done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise click.BadParameter(f"--against: neither a directory nor a commit: {done.stderr.decode().strip()}")
    return done.stdout


@dataclass
class Site:
    """A ClickHouse server that holds nothing, a bucket, and deployments of all versions there."""

    server: OwnClickHouse
    s3: str  #: URL
    directory: Path

    def deployment(self, name: str, networks: Sequence[str], luigid: int | None = None) -> Deployment:
        """Return a deployment with databases and a work directory of its own, and a luigid at this port."""
        source = {**in_bucket("bench", self.s3), "SOT_S3_ANONYMOUS": "true"}
        reader, variables = ServerReader(self.server, f"{name}_", networks), {"INGESTION_NETWORKS": ",".join(networks)}
        made = Deployment(source, reader, self.directory / name, variables)
        if luigid:
            made.directory.mkdir()
            (made.directory / "luigi.cfg").write_text(f"[core]\ndefault_scheduler_port = {luigid}\n")
        return made

    def run(self, version: Version, deployment: Deployment, *arguments: str) -> Cost:
        """Run ``sot-ingest`` and return what it cost, statements among its parts. Raises RunFailedError."""
        before = self._counted()
        cost = with_steps(
            cost_of(
                (sys.executable, "-c", _COMMAND, *arguments),
                environment={**deployment.environment, "PYTHONPATH": str(version.root)},
                directory=deployment.directory,
                server=psutil.Process(self.server.pid),
            )
        )
        after, own = self._counted(), {"Query": 1, "SelectQuery": 1}
        counted = {title: after[event] - before[event] - own.get(event, 0) for event, title in COUNTERS.items()}
        return Cost(cost.seconds, cost.client_cpu, cost.server_cpu, parts={**cost.parts, **counted})

    def _counted(self) -> dict[str, int]:
        text = self.server.http("SELECT event, value FROM system.events FORMAT TSV")
        found = dict(line.split("\t") for line in text.splitlines())
        return {event: int(found.get(event, 0)) for event in COUNTERS}


@contextmanager
def site(bucket: Path) -> Iterator[Site]:
    """Start the parts."""
    with (
        TemporaryDirectory(dir=CACHE, prefix="site-") as name,
        served(bucket) as url,
        OwnClickHouse(Path(name) / "clickhouse") as server,
    ):
        yield Site(server, url, Path(name))


@dataclass
class Comparison:
    """What commands cost by version, round by round, and the table of it."""

    versions: Sequence[Version]
    _costs: dict[str, dict[str, list[Cost]]] = field(default_factory=dict)  #: by command and version

    def add(self, command: str, version: Version, cost: Cost) -> None:
        """Add a round of a command."""
        self._costs.setdefault(command, defaultdict(list))[version.title].append(cost)
        sys.stderr.write(f"{command}, {version.title}: {cost.seconds:.2f} s\n")

    def table(self, commands: Mapping[str, int]) -> str:
        """Return the table of these commands, each with the number of things that its figures are divided by."""
        rows = [row for command, count in commands.items() for row in self._rows(command, count)]
        return table(("what", "figure", *(version.title for version in self.versions), "×"), rows)

    def _rows(self, command: str, count: int) -> Iterator[tuple[str, ...]]:
        found = [[_figures(cost, count) for cost in self._costs[command][each.title]] for each in self.versions]
        for number, figure in enumerate(found[0][0]):
            spreads = [Spread(tuple(figures[figure] for figures in rounds if figure in figures)) for rounds in found]
            first, last = spreads[0].median, spreads[-1].median
            ratio = f"{last / first:.2f}" if len(spreads) > 1 and first else ""
            digits = 1 if figure in COUNTERS.values() else 3 if spreads[-1].median < 0.1 else 2
            yield ("" if number else command, figure, *(spread.text(digits) for spread in spreads), ratio)


def _figures(cost: Cost, count: int) -> dict[str, float]:
    client, server = cost.client_cpu / count, cost.server_cpu / count
    return {
        "s": cost.seconds / count,
        "CPU s of both": client + server,
        "CPU s of the client": client,
        "CPU s of the server": server,
        **{title: cost.parts[title] / count for title in COUNTERS.values()},
        **{title: cost.parts[part] for part, title in PARTS.items() if part in cost.parts},
    }
