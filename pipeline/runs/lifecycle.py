"""What belongs to every run beside its work: it says that it starts, and in the end what it did.

The same for ``sot-ingest`` and ``luigi``, for every exit code and for signals; the log's last line says how the run
ended. Whatever goes wrong here is a warning: it changes no exit code, and no service that hangs holds up the end for
longer than :data:`SECONDS` an action.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from loguru import logger

from pipeline import exit_codes
from pipeline.errors import (
    ConfigError,
    PipelineError,
    RequestError,
    SchedulerError,
    WarehouseError,
    WorkDirectoryError,
)
from pipeline.graph import auditing, interrupts, step_records
from pipeline.graph.context import QUICK_SECONDS, Context, get_context
from pipeline.runs import inspection, metrics, notify, ping
from pipeline.runs.inspection import Inspection
from pipeline.runs.outcome import Outcome, outcome_of, refusal, with_history
from pipeline.settings import Settings, ignored_variables
from pipeline.warehouse.schema import ensure_on_other_hosts

T = TypeVar("T")

SECONDS = 30.0  #: that an action may take

_GOES_ON = "a rerun goes on from here"


def _write_report(chosen: Settings, _outcome: Outcome) -> None:
    if chosen.report_path:
        from pipeline.operations.report import write_report  # noqa: PLC0415  # Jinja: not for a run without a report

        write_report(get_context(), chosen.report_path)


#: What is done at the end of a run, in this order.
ACTIONS: dict[str, Callable[[Settings, Outcome], None]] = {
    "send messages": notify.send,
    "write METRICS_PATH": metrics.write,
    "write REPORT_PATH": _write_report,
    "ping PING_URL": lambda settings, outcome: ping.end(settings, outcome.exit_code, outcome.codes()),
}


def run_with_lifecycle(work: Callable[[], int], facts: Mapping[str, Any]) -> int:
    """Do the work of a run with its start and its end, and return its exit code, also for what the work raises.

    ``facts`` are what the run is about, for the log's last line; the work may add to them. Runs within a run belong to
    it.
    """
    if step_records.is_open():
        return work()
    shared, started_at = get_context(), datetime.now(UTC)
    networks = facts["networks"]
    with step_records.open_run(shared) as run:
        code = _exit_code_of(work, shared, run, networks)
        outcome = outcome_of(shared, run, code, started_at, networks)
        try:
            _report(shared, outcome)
        except interrupts.Interrupted as interrupt:
            cause, hint = f"ended by {interrupt} after its work", "what it did is done; who is to know may not know"
            outcome = replace(outcome, exit_code=interrupt.exit_code, cause=cause, hint=hint)
        _log_end(outcome, facts)
    return outcome.exit_code


def _exit_code_of(
    work: Callable[[], int], shared: Context, run: step_records.RunRecords, networks: Sequence[str]
) -> int:
    """Do the work and return its exit code; what it raises is logged, and is the run's cause."""
    try:
        for line in ignored_variables(shared.settings):
            logger.bind(hint="it changes nothing: correct or remove it").warning("{}", line)
        _bounded("ping PING_URL", lambda: ping.start(shared.settings, networks))
        auditing.require_right_audits(shared, networks)
        _complete_hosts(shared, networks)
        with run.sending():
            return work()
    except interrupts.Interrupted as interrupt:
        step_records.set_cause(f"ended by {interrupt}", _GOES_ON)
        return interrupt.exit_code
    except PipelineError as error:
        step_records.set_cause(str(error), error.hint)
        return log_error(error)
    except Exception as error:  # noqa: BLE001  # a bug ends a run, too
        logger.opt(exception=error).error("Unexpected {}: {}", type(error).__name__, error)
        step_records.set_cause(f"{type(error).__name__}: {error}", "this is a bug: see the log")
        return exit_codes.LUIGI


def _complete_hosts(shared: Context, networks: Sequence[str]) -> None:
    """Bring hosts to the tables of the others that were away when these were created, also in a run without work."""
    for network in networks:
        if len(shared.settings.servers(network)) < 2:
            continue
        try:
            ensure_on_other_hosts(shared.warehouse(network, timeout=QUICK_SECONDS))
        except WarehouseError as error:
            logger.bind(network=network, hint=error.hint).warning("Could not complete the replicas: {}", error)


def log_error(error: PipelineError | interrupts.Interrupted) -> int:
    """Log what ends a command, each mistake of several on a line of its own, and return the exit code."""
    messages, hint = texts_of(error)
    for message in messages:
        logger.bind(hint=hint or None).error("{}", message)
    if isinstance(error, interrupts.Interrupted):
        return error.exit_code
    if isinstance(error, ConfigError | RequestError):
        return exit_codes.CONFIG
    if isinstance(error, WorkDirectoryError):
        return exit_codes.UNKNOWN
    return exit_codes.LUIGI if isinstance(error, SchedulerError) else exit_codes.TASK_FAILED


def texts_of(error: PipelineError | interrupts.Interrupted) -> tuple[list[str], str]:
    """Return what ended a command, where that is several mistakes each of them, and the hint."""
    if isinstance(error, interrupts.Interrupted):
        return [f"Ended by {error}"], _GOES_ON
    return error.lines, error.hint


def log_refusal(error: PipelineError | interrupts.Interrupted) -> int:
    """Log why no run was started, then what every run's last line says; return the exit code."""
    code = log_error(error)
    _log_end(refusal(code), {})
    return code


def _report(shared: Context, outcome: Outcome) -> None:
    """Tell services and files how the run ended."""
    networks = shared.settings.networks if shared.settings.metrics_path else ()
    outcome = _bounded("read the history", lambda: with_history(shared, outcome, networks)) or outcome
    for name, action in ACTIONS.items():
        _bounded(name, lambda action=action: action(shared.settings, outcome))  # type: ignore[misc]  # bound at once


def _log_end(outcome: Outcome, facts: Mapping[str, Any]) -> None:
    """Log the last line of a run."""
    fields, code = outcome.as_dict(), outcome.exit_code
    known = logger.bind(exit_code=code, **facts).bind(**fields)
    known.log("INFO" if code == 0 else "ERROR", "Run ended: {}", exit_codes.MEANINGS[code])
    sys.stderr.flush()


def run_inspection(networks: Sequence[str], inspect: Callable[[Inspection], int]) -> int:
    """Do the work of ``check`` or ``verify`` with messages and pings; return its exit code. Raises what it raises."""
    chosen, found, code = get_context().settings, Inspection(dict.fromkeys(networks, 0)), exit_codes.UNKNOWN
    _bounded("ping PING_URL", lambda: ping.start(chosen, networks))
    try:
        code = inspect(found)
    except interrupts.Interrupted as interrupt:
        code = interrupt.exit_code
        found.codes = dict.fromkeys(networks, code)
        raise
    finally:
        _bounded("send messages", lambda: inspection.send(chosen, found, code))
        _bounded("ping PING_URL", lambda: ping.end(chosen, code, found.codes))
    return code


def _bounded(name: str, action: Callable[[], T]) -> T | None:
    """Return what the action returns, or None when it fails or takes too long, which is a warning."""
    found: list[T] = []

    def run() -> None:
        try:
            found.append(action())
        except Exception as error:  # noqa: BLE001  # one failing action must not stop the others
            logger.bind(hint=getattr(error, "hint", None)).warning("Could not {}: {}", name, error)

    thread = threading.Thread(target=run, daemon=True)  # one that hangs does not keep the process
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        logger.warning("Could not {} within {} s", name, SECONDS)
    return found[0] if found else None
