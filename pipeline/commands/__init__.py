"""The verbs of ``sot-ingest``: a module each, with a click command named ``command``.

Modules import nothing heavy before a verb runs, for ``--help`` imports them all.
"""

from __future__ import annotations

#: In the order of --help.
VERBS = (
    *("run", "plan", "backfill", "rerun", "rollback"),
    *("status", "history", "report", "verify", "check", "gc", "unblock", "doctor"),
)
