"""Our own metrics, as files for the node exporter's textfile collector.

A network has two: how its last run ended, and what its warehouse holds. Each is replaced by a run that knows what is in
it, and stays as it is when a warehouse does not answer: a gauge that is gone raises no alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pipeline.dates import day_end
from pipeline.files import atomic
from pipeline.runs.outcome import Outcome
from pipeline.settings import Settings
from pipeline.warehouse.publish import Publication

#: The gauges and what they say; all have the label network, and newest_rows the label table.
METRICS = {
    "sot_ingest_last_run_timestamp_seconds": "End of the last run.",
    "sot_ingest_last_run_seconds": "How long the last run took.",
    "sot_ingest_last_run_exit_code": "Exit code of the last run, as far as it is about the network.",
    "sot_ingest_newest_day_end_timestamp_seconds": "End of the newest published processing date.",
    "sot_ingest_newest_publication_timestamp_seconds": "When that date was last published.",
    "sot_ingest_newest_rows": "Rows of that publication.",
    "sot_ingest_held_days": "Days that an audit holds.",
}


def write(settings: Settings, outcome: Outcome) -> None:
    """Write the files of METRICS_PATH, each whole or not at all. Raises WorkDirectoryError."""
    if settings.metrics_path is None:
        return
    for network in {snapshot.network for snapshot in outcome.asked}:
        if (code := outcome.code_of(network)) is not None:
            ended = {"timestamp_seconds": datetime.now(UTC).timestamp(), "seconds": outcome.seconds, "exit_code": code}
            gauges = {(f"sot_ingest_last_run_{name}", ""): value for name, value in ended.items()}
            _write_file(settings.metrics_path, network, "run", gauges)
    for network in sorted({*outcome.held_days, *outcome.published_networks}):
        publication = outcome.published_networks.get(network)
        gauges = _gauges_of(publication) if publication else {}
        if network in outcome.held_days:
            gauges["sot_ingest_held_days", ""] = outcome.held_days[network]
        _write_file(settings.metrics_path, network, "published", gauges)


def _gauges_of(publication: Publication) -> dict[tuple[str, str], float]:
    ended = day_end(publication.processing_date).timestamp()
    return {
        ("sot_ingest_newest_day_end_timestamp_seconds", ""): ended,
        ("sot_ingest_newest_publication_timestamp_seconds", ""): publication.published_at.timestamp(),
        **{("sot_ingest_newest_rows", table): rows for table, rows in publication.row_counts.items()},
    }


def _write_file(path: Path, network: str, about: str, gauges: Mapping[tuple[str, str], float]) -> None:
    """Write gauges, by name and table, to a network's file: ``sot-torus-run.prom`` beside ``sot.prom``."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile  # noqa: PLC0415  # when it is wanted

    registry, made = CollectorRegistry(), {}
    for (name, table), value in gauges.items():
        labels = {"network": network, **({"table": table} if table else {})}
        if name not in made:
            made[name] = Gauge(name, METRICS[name], labels, registry=registry)
        made[name].labels(**labels).set(value)
    own = path.with_name(f"{path.stem}-{network}-{about}.prom").absolute()
    with atomic.reported(own):
        own.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(own), registry)
        own.chmod(0o644)  # the node exporter is another user
