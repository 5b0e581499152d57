"""Our own metrics, as files for the node exporter's textfile collector, and as ``sot-ingest serve`` shows them.

A network has three files: how its last run ended, when one last succeeded, and what its warehouse holds. Each is
replaced by a run that knows what is in it, and stays as it is when a warehouse does not answer: a gauge that is gone
raises no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.dates import day_end
from pipeline.files import atomic
from pipeline.runs.outcome import Outcome
from pipeline.settings import Settings
from pipeline.warehouse.ledger import PIPELINE_VERSION
from pipeline.warehouse.publications import Publication

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: The gauges of the files and what they say. All have the label network.
METRICS = {
    "sot_ingest_last_run_timestamp_seconds": "End of the last run.",
    "sot_ingest_last_run_duration_seconds": "How long the last run took.",
    "sot_ingest_last_run_exit_code": "Exit code of the last run, as far as it is about the network.",
    "sot_ingest_last_success_timestamp_seconds": "End of the last run with exit code 0.",
    "sot_ingest_newest_day_end_timestamp_seconds": "End of the newest published processing date.",
    "sot_ingest_newest_publication_timestamp_seconds": "When that date was last published.",
    "sot_ingest_newest_rows": "Rows of that publication, by table.",
    "sot_ingest_held_days": "Days that an audit holds.",
    "sot_ingest_build_info": "Version that ran last, or that serves; always 1.",
}

#: What ``sot-ingest serve`` shows beside those of the files that the warehouse can tell.
SERVED = {
    "sot_ingest_warehouse_up": "Whether the network's warehouse answers: 1 or 0.",
    "sot_ingest_running_snapshots": "Snapshots that a run is at work on.",
    "sot_ingest_table_bytes": "Compressed bytes of a table on disk, superseded loads with it.",
    "sot_ingest_disk_free_bytes": "Free bytes of a disk of the warehouse's server.",
    "sot_ingest_disk_total_bytes": "Size of a disk of the warehouse's server.",
}


@dataclass(frozen=True)
class Sample:
    """A value of a gauge."""

    name: str
    value: float
    network: str
    label: tuple[str, str] | None = None  #: another one, name and value


def write(settings: Settings, outcome: Outcome) -> None:
    """Write the files of METRICS_PATH, each whole or not at all. Raises WorkDirectoryError."""
    if settings.metrics_path is None:
        return
    now = datetime.now(UTC).timestamp()
    for network in {snapshot.network for snapshot in outcome.asked}:
        if (code := outcome.code_of(network)) is not None:
            ended = {"timestamp_seconds": now, "duration_seconds": outcome.seconds, "exit_code": code}
            samples = [Sample(f"sot_ingest_last_run_{name}", value, network) for name, value in ended.items()]
            _write_file(settings.metrics_path, network, "run", [*samples, build_info(network)])
        if code == 0:
            succeeded = Sample("sot_ingest_last_success_timestamp_seconds", now, network)
            _write_file(settings.metrics_path, network, "success", [succeeded])
    for network in sorted({*outcome.held_days, *outcome.published_networks}):
        samples = []
        if network in outcome.published_networks:
            samples += newest_samples(network, outcome.published_networks[network])
        if network in outcome.held_days:
            samples.append(Sample("sot_ingest_held_days", outcome.held_days[network], network))
        _write_file(settings.metrics_path, network, "published", samples)


def build_info(network: str) -> Sample:
    """Return the version of this program."""
    return Sample("sot_ingest_build_info", 1, network, ("version", PIPELINE_VERSION))


def newest_samples(network: str, publication: Publication) -> Iterator[Sample]:
    """Yield what there is to say of the newest publication of a network's newest date."""
    ended = day_end(publication.processing_date).timestamp()
    yield Sample("sot_ingest_newest_day_end_timestamp_seconds", ended, network)
    published = publication.published_at.timestamp()
    yield Sample("sot_ingest_newest_publication_timestamp_seconds", published, network)
    for table, rows in publication.row_counts.items():
        yield Sample("sot_ingest_newest_rows", rows, network, ("table", table))


def registry_of(samples: Iterable[Sample]) -> CollectorRegistry:
    """Return the samples as Prometheus' client writes them."""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415  # when it is wanted

    registry, made, meanings = CollectorRegistry(), dict[str, Gauge](), {**METRICS, **SERVED}
    for sample in samples:
        labels = dict(filter(None, (("network", sample.network), sample.label)))
        if sample.name not in made:
            made[sample.name] = Gauge(sample.name, meanings[sample.name], labels, registry=registry)
        made[sample.name].labels(**labels).set(sample.value)
    return registry


def _write_file(path: Path, network: str, about: str, samples: Iterable[Sample]) -> None:
    """Write a network's file: ``sot-torus-run.prom`` beside ``sot.prom``."""
    from prometheus_client import write_to_textfile  # noqa: PLC0415

    own = path.with_name(f"{path.stem}-{network}-{about}.prom").absolute()
    with atomic.reported(own):
        own.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(own), registry_of(samples))
        own.chmod(0o644)  # the node exporter is another user
