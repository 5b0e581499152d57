"""What ``check`` and ``verify`` found, sent like a run's failure and recovery.

What was found last is in ``WORK_PATH/found``: these commands write nothing to the warehouse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.files import atomic
from pipeline.runs import notify, ping
from pipeline.settings import Settings
from pipeline.warehouse.ledger import HOST


@dataclass
class Inspection:
    """What a command looked at, and what is wrong there."""

    codes: dict[str, int]  #: exit code by network
    problems: dict[str, list[str]] = field(default_factory=dict)  #: by place, which begins with the network; none: []

    def add(self, place: str, problems: Sequence[str], code: int) -> None:
        """Add a place that was looked at; ``code`` is the exit code when something is wrong there."""
        self.problems.setdefault(place, []).extend(problems)
        if problems:
            self.codes[_network(place)] = code


def _network(place: str) -> str:
    return place.partition(" ")[0]


def send(settings: Settings, found: Inspection, exit_code: int) -> None:
    """Send a message about what is wrong, or is no longer, if there is something to say and an address for it."""
    if not (urls := settings.notify_urls.get_secret_value()):
        return
    path = settings.work_path.absolute() / "found" / f"{ping.command()}.json"
    before = set((atomic.read_proof(path) or {}).get("places", []))
    wrong = {place: problems for place, problems in found.problems.items() if problems}
    recovered = sorted(before & found.problems.keys() - wrong.keys())
    if wrong or recovered:
        notify.send_message(urls, _message(wrong, recovered, exit_code))
    left = sorted((before - found.problems.keys()) | wrong.keys())
    if left:
        atomic.write_proof(path, {"places": left})
    else:
        atomic.remove(path)


def _message(wrong: dict[str, list[str]], recovered: Sequence[str], exit_code: int) -> notify.Message:
    """Return the text of the message; a recovery is reported once."""
    networks = sorted({_network(place) for place in wrong or recovered})
    what = "failed" if wrong else "recovered"
    lines = [line for place, problems in list(wrong.items())[: notify.MOST] for line in (f"{place}:", *problems)]
    if (more := len(wrong) - notify.MOST) > 0:
        lines.append(f"and {more} more")
    lines += [f"{place}: in order again" for place in recovered]
    footer = f"host {HOST}, exit code {exit_code}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    title = f"sot-ingest {ping.command()} {what}: {', '.join(networks)}"
    return notify.Message("failure" if wrong else "success", title, "\n".join([*lines, "", footer]))
