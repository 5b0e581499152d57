"""What verify found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.snapshot import Snapshot


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, or that one should know."""

    kind: str  #: publication, ledger, rows, content, view, file, superseded upstream, …
    found: str
    expected: str
    hint: str  #: what to do
    table: str = ""  #: when it is about one
    load_id: str = ""
    is_fault: bool = True  #: else a note


def rerun_command(snapshot: Snapshot, table: str = "") -> str:
    """Return the command that loads a snapshot or one of its tables again."""
    return command_for("rerun", snapshot) + (f" --table {table}" if table else "")


def command_for(verb: str, snapshot: Snapshot) -> str:
    """Return the command that does something with one snapshot."""
    return f"sot-ingest {verb} {snapshot.options}"
