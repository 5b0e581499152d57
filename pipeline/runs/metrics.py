"""Our own metrics, as a file for the node exporter's textfile collector.

Counters are what the log of steps adds up to, so that they count every host's runs and survive this one. What a run
cannot tell – another network's last run, a network whose warehouse does not answer – stays as the file had it: a
gauge that is gone raises no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.dates import day_end
from pipeline.files import atomic
from pipeline.runs.outcome import NetworkFacts, Outcome
from pipeline.settings import Settings


@dataclass(frozen=True)
class _Metric:
    name: str
    kind: str
    help: str
    of_run: bool = False  #: about a network's last run, else about what its warehouse holds


METRICS = {
    metric.name: metric
    for metric in (
        _Metric("sot_ingest_last_run_timestamp_seconds", "gauge", "End of the last run.", of_run=True),
        _Metric("sot_ingest_last_run_seconds", "gauge", "How long the last run took.", of_run=True),
        _Metric("sot_ingest_last_run_exit_code", "gauge", "Exit code of the last run, 0 when well.", of_run=True),
        _Metric("sot_ingest_newest_day_end_timestamp_seconds", "gauge", "End of the newest published processing date."),
        _Metric("sot_ingest_newest_publication_timestamp_seconds", "gauge", "When that date was last published."),
        _Metric("sot_ingest_newest_rows", "gauge", "Rows of that publication."),
        _Metric("sot_ingest_steps_done_total", "counter", "Steps that were done."),
        _Metric("sot_ingest_step_failures_total", "counter", "Steps that failed."),
        _Metric("sot_ingest_step_seconds_total", "counter", "Time that steps took."),
        _Metric("sot_ingest_step_rows_total", "counter", "Rows that steps were done with."),
        _Metric("sot_ingest_step_bytes_total", "counter", "Bytes that steps were done with."),
    )
}


@dataclass(frozen=True)
class Sample:
    """One line of the file."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    @property
    def network(self) -> str:
        """The network that it is about."""
        return dict(self.labels).get("network", "")


def _sample(name: str, value: float, **labels: str) -> Sample:
    return Sample(name, tuple(labels.items()), float(value))


def write(settings: Settings, outcome: Outcome) -> None:
    """Write METRICS_PATH, whole or not at all. Raises WorkDirectoryError."""
    if settings.metrics_path is None:
        return
    path = settings.metrics_path.absolute()
    with atomic.locked(settings.work_path.absolute() / "locks" / "metrics.lock"):
        samples = merged(read(path), samples_of(outcome, datetime.now(UTC)), outcome)
        with atomic.replacing(path) as file:
            file.write(text_of(samples))
        path.chmod(0o644)  # the node exporter is another user


def samples_of(outcome: Outcome, now: datetime) -> list[Sample]:
    """Return what a run can tell."""
    found = []
    for network in dict.fromkeys(snapshot.network for snapshot in outcome.asked):
        found += [
            _sample("sot_ingest_last_run_timestamp_seconds", round(now.timestamp(), 3), network=network),
            _sample("sot_ingest_last_run_seconds", outcome.seconds, network=network),
            _sample("sot_ingest_last_run_exit_code", outcome.code_of(network), network=network),
        ]
    for network, facts in outcome.networks.items():
        found += _of_network(network, facts)
    return found


def _of_network(network: str, facts: NetworkFacts) -> Iterator[Sample]:
    if seen := facts.publication:
        ended = day_end(seen.processing_date).timestamp()
        yield _sample("sot_ingest_newest_day_end_timestamp_seconds", ended, network=network)
        published = seen.published_at.timestamp()
        yield _sample("sot_ingest_newest_publication_timestamp_seconds", published, network=network)
        for table, rows in sorted(seen.row_counts.items()):
            yield _sample("sot_ingest_newest_rows", rows, network=network, table=table)
    for total in facts.totals:
        labels = {"network": network, "step": total.step, "table": total.table}
        yield _sample("sot_ingest_steps_done_total", total.done, **labels)
        yield _sample("sot_ingest_step_failures_total", total.failed, **labels)
        yield _sample("sot_ingest_step_seconds_total", total.seconds, **labels)
        if total.rows:
            yield _sample("sot_ingest_step_rows_total", total.rows, **labels)
        if total.bytes:
            yield _sample("sot_ingest_step_bytes_total", total.bytes, **labels)


def merged(old: Iterable[Sample], new: list[Sample], outcome: Outcome) -> list[Sample]:
    """Return the new samples, and those of the old that the run has nothing to say about."""
    ran = {snapshot.network for snapshot in outcome.asked}
    kept = [
        sample
        for sample in old
        if sample.name in METRICS and sample.network not in (ran if METRICS[sample.name].of_run else outcome.networks)
    ]
    return kept + new


def read(path: Path) -> list[Sample]:
    """Return the samples of a file; none when it is not there, or not one of ours."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    try:
        families = list(text_string_to_metric_families(path.read_text("utf-8")))
    except (FileNotFoundError, ValueError):
        return []
    found = [sample for family in families for sample in family.samples]
    return [Sample(sample.name, tuple(sample.labels.items()), sample.value) for sample in found]


def text_of(samples: Iterable[Sample]) -> bytes:
    """Return samples in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.core import Metric as Family  # noqa: PLC0415

    by_name: dict[str, Family] = {}
    for metric in METRICS.values():
        by_name[metric.name] = Family(metric.name.removesuffix("_total"), metric.help, metric.kind)
    for sample in sorted(samples, key=lambda each: (each.name, each.labels)):
        by_name[sample.name].add_sample(sample.name, dict(sample.labels), sample.value)

    class Collected:
        def collect(self) -> list[Family]:
            return [family for family in by_name.values() if family.samples]

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry)
