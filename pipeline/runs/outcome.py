"""What a run did: the records of its steps, and what the log of steps says about the runs before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from loguru import logger

from pipeline import exit_codes, logs
from pipeline.errors import PipelineError
from pipeline.graph import step_records
from pipeline.graph.context import QUICK_SECONDS, Context
from pipeline.graph.step_records import RunRecords, Standing
from pipeline.logs import VERSION
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME
from pipeline.warehouse import step_log
from pipeline.warehouse.audit_log import held_snapshots
from pipeline.warehouse.ledger import HOST
from pipeline.warehouse.publications import ALL_DAYS, Publication, newest_date_publication
from pipeline.warehouse.step_log import StepRecord

#: Exit codes of runs that went on with the other networks: each network has its own.
_OF_NETWORKS = {exit_codes.ALREADY_RUNNING, exit_codes.MISSING, exit_codes.TASK_FAILED, exit_codes.UNKNOWN}


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    exit_code: int
    run_id: str
    started_at: datetime  #: UTC
    seconds: float
    asked: tuple[Snapshot, ...]  #: what the run was about, also where nothing was to be done
    records: tuple[StepRecord, ...]  #: of its steps, in their order
    about: tuple[str, ...] = ()  #: the networks that the command was about
    cause: str = ""  #: of an end that is no step's
    hint: str = ""
    standings: Mapping[Snapshot, Standing] = field(default_factory=dict)  #: of what was asked
    recovered: tuple[Snapshot, ...] = ()  #: in order now, after a run that failed or found nothing
    published_networks: Mapping[str, Publication] = field(default_factory=dict)  #: of the newest date
    held_days: Mapping[str, int] = field(default_factory=dict)  #: by network, how many an audit holds
    host: str = HOST

    @property
    def troubles(self) -> tuple[StepRecord, ...]:
        """The newest record of each step that was not done in the end: one that was tried again may have been."""
        newest = {(record.snapshot, record.title): record for record in self.records}
        return tuple(record for record in newest.values() if record.state != "done")

    @property
    def published(self) -> tuple[StepRecord, ...]:
        """The records of publications."""
        return tuple(each for each in self.records if (each.step, each.state) == ("PublishSnapshot", "done"))

    def code_of(self, network: str) -> int | None:
        """Return the exit code as far as it is about one network, or None when the run left it to another run.

        Another network's failure is not in it, nor an interrupt after all that was asked for the network was done.
        """
        known = {known for snapshot, known in self.standings.items() if snapshot.network == network}
        troubles = {record.state for record in self.troubles if record.snapshot.network == network}
        if self.exit_code in _OF_NETWORKS:
            if "unknown" in known:
                return min(exit_codes.UNKNOWN, self.exit_code)
            if troubles:
                return exit_codes.MISSING if troubles == {"missing"} else exit_codes.TASK_FAILED
            if "left" in known:
                return None
        is_done = known <= {"done"} and not troubles and not (self.cause and not known)
        return 0 if is_done else self.exit_code

    def as_dict(self) -> dict[str, Any]:
        """Return what programs are told of the run's end, by the log and by messages: docs/json/run-ended.json."""
        last = {(record.snapshot, record.title): record for record in self.records}
        failed = [record for record in last.values() if record.state == "failed"]
        rows: Counter[str] = Counter()
        for record in self.published:
            rows.update({name: count for name, count in record.facts.items() if name in BY_NAME})
        return {
            "exit_code": self.exit_code,
            "run_id": self.run_id,
            "version": VERSION,
            "host": self.host,
            "networks": list(self.about),
            "dates": sorted({snapshot.processing_date.isoformat() for snapshot in self.asked}),
            "published": [record.snapshot.label for record in self.published],
            "publication_ids": [record.facts.get("publication_id") for record in self.published],
            "manifest_sha256s": [record.facts.get("manifest_sha256") for record in self.published],
            "rows": dict(rows),
            "failed": [f"{record.title} of {record.snapshot.label}" for record in failed],
            "failed_step": failed[0].title if failed else None,
            "held": [record.snapshot.label for record in last.values() if record.state == "held"] or None,
            "missing": [record.snapshot.label for record in last.values() if record.state == "missing"] or None,
            "cause": self.cause or None,
            "hint": (self.hint if self.cause else exit_codes.HINTS.get(self.exit_code)) or None,
            "seconds": self.seconds,
        }

    def codes(self) -> dict[str, int]:
        """Return the exit code of each network that the command was about."""
        codes = {network: self.code_of(network) for network in self.about}
        return {network: self.exit_code if code is None else code for network, code in codes.items()}


def refusal(exit_code: int) -> Outcome:
    """Return the end of a run that was not started."""
    return Outcome(exit_code, logs.run_id(), datetime.now(UTC), seconds=0.0, asked=(), records=())


def outcome_of(
    context: Context, run: RunRecords, exit_code: int, started_at: datetime, about: Iterable[str]
) -> Outcome:
    """Return how the run ended, from what its processes know; see :func:`with_history`."""
    records = run.records()
    asked = {*run.standings, *(record.snapshot for record in records)}
    return Outcome(
        exit_code=exit_code,
        run_id=context.run_id,
        started_at=started_at,
        seconds=round((datetime.now(UTC) - started_at).total_seconds(), 3),
        about=tuple(about),
        asked=tuple(sorted(asked)),
        records=records,
        cause=run.cause,
        hint=run.hint,
        standings=run.standings,
    )


def with_history(context: Context, outcome: Outcome, networks: Iterable[str]) -> Outcome:
    """Return the outcome with what the warehouse knows about its snapshots, and holds of the ``networks``.

    Sends the records of steps that wait. A network whose warehouse does not answer is left out, with a warning.
    """
    recovered, published, held, wanted = [], {}, {}, set(networks)
    calm = _without_trouble(context, outcome.asked)
    for network in dict.fromkeys((*networks, *(snapshot.network for snapshot in outcome.asked))):
        try:
            warehouse = context.warehouse(network, timeout=QUICK_SECONDS)
            if network not in calm:
                warehouse.execute("SELECT 1")  # asked once: a dead one is not waited for
            step_records.deliver(network)
            if network not in calm:
                recovered += _recovered(context, outcome, network)
            if network not in wanted:
                continue
            held[network] = len(held_snapshots(warehouse, network, *ALL_DAYS, context.settings.window_days))
            if publication := newest_date_publication(warehouse, context.settings.window_days):
                published[network] = publication
        except PipelineError as error:
            logger.bind(network=network, hint=error.hint).warning("Could not read the history: {}", error)
    return replace(outcome, recovered=tuple(recovered), published_networks=published, held_days=held)


def _without_trouble(context: Context, asked: Sequence[Snapshot]) -> set[str]:
    """Return the networks where no step of these days ever had another end than being done, asked together."""
    networks = {snapshot.network for snapshot in asked}
    if len(networks) < 2:
        return set()
    warehouses = {network: context.warehouse(network, timeout=QUICK_SECONDS) for network in networks}
    days = [snapshot.processing_date for snapshot in asked]
    troubles = step_log.count_troubles(warehouses, min(days), max(days), asked[0].window_days)
    return {network for network, count in troubles.items() if not count}


def _recovered(context: Context, outcome: Outcome, network: str) -> list[Snapshot]:
    """Return the network's snapshots that are in order after this run and were not after the one before.

    A run with nothing to do leaves no record; where it finds in order what failed before, it leaves one that says so.
    """
    asked = [snapshot for snapshot in outcome.asked if snapshot.network == network and _is_in_order(outcome, snapshot)]
    if not asked:
        return []
    warehouse = context.warehouse(network, timeout=QUICK_SECONDS)
    first, last = asked[0].processing_date, asked[-1].processing_date
    before = [
        record
        for record in step_log.step_records(warehouse, network, first, last, asked[0].window_days)
        if record.run_id != outcome.run_id
    ]
    states = {"failed", "held", *(["missing"] if context.settings.notify_missing else [])}
    found = [
        snapshot for snapshot in asked if states & last_states([each for each in before if each.snapshot == snapshot])
    ]
    recorded = {record.snapshot for record in outcome.records}
    for snapshot in found:
        if snapshot not in recorded:
            record = step_records.record_of(context, snapshot, ("IngestSnapshot", ""), "done")
            step_records.record_step(context, record)
    return found


def _is_in_order(outcome: Outcome, snapshot: Snapshot) -> bool:
    """Tell whether the run left the snapshot published and cleaned up."""
    own = [record for record in outcome.records if record.snapshot == snapshot]
    if any(record.state != "done" for record in own):
        return False
    return outcome.exit_code == 0 or any(record.step == "CleanUp" for record in own)


def last_states(records: list[StepRecord]) -> set[str]:
    """Return what became of the steps of the newest run in the records, which are in the order of time."""
    newest = [record for record in records if record.run_id == records[-1].run_id]
    return set({record.title: record.state for record in newest}.values())
