"""What belongs to every run beside its work: it says that it starts, and in the end what it did.

The same for ``sot-ingest`` and ``luigi``, for every exit code and for signals. Whatever goes wrong here is a warning:
it changes no exit code, and no service that hangs holds up the end for longer than :data:`SECONDS` an action.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from loguru import logger

from pipeline import exit_codes
from pipeline.errors import ConfigError, PipelineError
from pipeline.graph import interrupts, step_records
from pipeline.graph.context import Context, get_context
from pipeline.runs import inspection, metrics, notify, ping
from pipeline.runs.inspection import Inspection
from pipeline.runs.outcome import Outcome, outcome_of, with_history
from pipeline.settings import Settings

T = TypeVar("T")

SECONDS = 30.0  #: that an action may take


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
    """Do the work of a run with its start and its end, and return its exit code. Raises what the work raises.

    ``facts`` are what the run is about, its ``networks`` among them, comma-separated. Runs within a run belong to it.
    """
    if step_records.is_open():
        return work()
    shared, started_at = get_context(), datetime.now(UTC)
    with step_records.open_run(shared) as run:
        networks = facts["networks"].split(",")
        _bounded("ping PING_URL", lambda: ping.start(shared.settings, networks))
        code = exit_codes.LUIGI
        try:
            with run.sending():
                code = work()
        except interrupts.Interrupted as interrupt:
            code = interrupt.exit_code
            step_records.set_cause(f"ended by {interrupt}", "a rerun goes on from here")
            raise
        except PipelineError as error:
            code = exit_codes.CONFIG if isinstance(error, ConfigError) else exit_codes.TASK_FAILED
            step_records.set_cause(str(error), error.hint)
            raise
        except Exception as error:
            code = 1
            step_records.set_cause(f"{type(error).__name__}: {error}", "this is a bug: see the log")
            raise
        finally:
            _end(shared, run, code, started_at, networks)
        return code


def _end(shared: Context, run: step_records.RunRecords, code: int, started_at: datetime, about: Sequence[str]) -> None:
    outcome = outcome_of(shared, run, code, started_at, about)
    networks = shared.settings.networks if shared.settings.metrics_path else ()
    outcome = _bounded("read the history", lambda: with_history(shared, outcome, networks)) or outcome
    for name, action in ACTIONS.items():
        _bounded(name, lambda action=action: action(shared.settings, outcome))  # type: ignore[misc]  # bound at once
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
