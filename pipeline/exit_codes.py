"""The exit codes of ``sot-ingest`` and ``luigi``, and what each of them means."""

from __future__ import annotations

CONFIG, FINDINGS, ALREADY_RUNNING, MISSING, NOT_RUN = 2, 3, 10, 20, 25
TASK_FAILED, UNKNOWN, LUIGI = 30, 35, 40

MEANINGS = {
    0: "done, or nothing to do",
    2: "the configuration or the command line is wrong, and nothing was started",
    3: "`check`, `verify` or `audit` found something",
    10: "another run is doing the same",
    20: "no snapshot at the source (yet)",
    25: "luigi's scheduler did not let the work run",
    30: "a step failed; the log's ERROR line says which, why, and what to do",
    35: "could not tell whether a step is done: source, warehouse or work directory does not answer",
    40: "luigi itself failed, or its scheduler does not answer",
    130: "interrupted (SIGINT)",
    143: "terminated (SIGTERM)",
}

#: What to do where no step and no error says it.
HINTS = {
    ALREADY_RUNNING: "the log of the other run says how it ended",
    NOT_RUN: "unpause luigid on its page, or let it run again what it disabled: sot-ingest unblock",
}
