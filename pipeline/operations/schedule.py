"""What runs next: of the container's crontab, or of the timers of systemd."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cronsim import CronSim

from pipeline import cron
from pipeline.errors import RequestError

CRONTAB = Path("/etc/sot-ingest/crontab")  #: in the image

_HINT = f"name a crontab of pipeline.cron with --crontab; in its container that is {CRONTAB}"


@dataclass(frozen=True)
class Due:
    """When something runs next."""

    at: datetime | None  #: UTC; None: not again
    what: str  #: a command, or the unit that a timer starts
    schedule: str  #: the five fields, or the timer
    last: datetime | None = None  #: UTC, where that is known

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        moments = {"next": self.at, "last": self.last}
        known = {name: moment.isoformat() if moment else None for name, moment in moments.items()}
        return {**known, "what": self.what, "schedule": self.schedule}


def schedule_of(crontab: Path | None, now: datetime) -> list[Due]:
    """Return what runs next, the soonest first: of the crontab that is named or that the image has, else of timers.

    Raises RequestError where there is neither, ConfigError for a wrong crontab.
    """
    path = crontab or (CRONTAB if CRONTAB.exists() else None)
    found = due_in_crontab(path, now) if path else due_by_timers(_listed_timers())
    return sorted(found, key=lambda due: (due.at is None, due.at or now))


def due_in_crontab(path: Path, now: datetime) -> list[Due]:
    """Return when each line of a crontab is due. Raises RequestError, ConfigError."""
    try:
        lines = cron.parse(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", hint=_HINT) from None
    return [Due(next(CronSim(line.schedule, now), None), shlex.join(line.command), line.schedule) for line in lines]


def due_by_timers(text: str) -> list[Due]:
    """Return when timers elapse, of what ``systemctl list-timers --output=json`` says: microseconds since 1970."""
    return [
        Due(_moment(timer.get("next")), timer.get("activates") or "", timer["unit"], _moment(timer.get("last")))
        for timer in json.loads(text)
    ]


def _moment(microseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(microseconds / 1e6, UTC) if microseconds else None


def _listed_timers() -> str:
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        raise RequestError(f"There is no {CRONTAB} here, and no systemd", hint=_HINT)
    command = [systemctl, "list-timers", "--all", "--output=json", "sot-ingest-*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # no shell, our own words
    if done.returncode:
        problem = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise RequestError(f"There is no {CRONTAB} here, and systemd does not answer: {problem}", hint=_HINT)
    return done.stdout
