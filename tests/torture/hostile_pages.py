"""Hostile strings in the tables that status, history and the report show: as if everything before had let them in."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import partial

from tests.torture import oracle
from tests.torture.case import Case
from tests.torture.commands import Ended
from tests.torture.hostile import strings
from tests.torture.hostile_output import check_logs, check_page
from tests.torture.site import DAY, Site

_DAYS = ("--days", "1", "--date", str(DAY))
_OF_STEPS = ("step", "table_name", "error", "hint", "run_id", "host")
_OF_PUBLICATIONS = ("source", "published_by", "run_id")
_SHOWN = "failed <zqx>&amp; as text"


def of_steps(chance: random.Random) -> Case:
    """Return a case about what steps said, with all that shows it."""
    texts = strings(chance, 20)
    examples = len(texts) * len(_OF_STEPS)
    name = f"{examples} hostile texts of steps, in history, status and report"
    return Case(name, partial(_steps, texts), examples=examples)


def of_publications(chance: random.Random) -> Case:
    """Return a case about what publications say, with all that shows it."""
    texts = strings(chance, 20)
    examples = len(texts) * len(_OF_PUBLICATIONS)
    name = f"{examples} hostile texts of publications, in status, verify and report"
    return Case(name, partial(_publications, texts), examples=examples)


def _steps(texts: Sequence[str], site: Site) -> None:
    _published(site)
    rows: list[dict[str, object]] = []
    for number, text in enumerate([*texts, _SHOWN]):
        row: dict[str, object] = {"processing_date": str(DAY), "window_days": 195, "state": "failed", "seconds": 1.5}
        facts = json.dumps({text: text})
        moment = f"2099-01-01 00:{number:02}:00"
        rows.append({**row, **dict.fromkeys(_OF_STEPS, text), "facts": facts, "started_at": moment})
    _insert(site, "sot_steps", rows)
    _show(site, _SHOWN)


def _publications(texts: Sequence[str], site: Site) -> None:
    _published(site)
    server, table = site.ground.server, f"{site.database('torus')}.sot_publications"
    newest = f"SELECT * FROM {table} ORDER BY published_at DESC LIMIT 1 FORMAT JSONEachRow"
    row = json.loads(oracle.ask(server, newest))
    rows = []
    for number, text in enumerate(texts):
        moment = f"2099-01-01 00:{number:02}:00"
        rows.append({**row, **dict.fromkeys(_OF_PUBLICATIONS, text), "published_at": moment})
    _insert(site, "sot_publications", rows)
    site.run(["sot-ingest", "verify", "--date", str(DAY)])
    _show(site, "")


def _published(site: Site) -> None:
    if (ended := site.run()).exit_code:
        site.violated(0, f"the first run exited {ended.exit_code}")
    site.check_rows()


def _insert(site: Site, table: str, rows: Sequence[dict[str, object]]) -> None:
    lines = "\n".join(json.dumps(row) for row in rows)
    oracle.ask(site.ground.server, f"INSERT INTO {site.database('torus')}.{table} FORMAT JSONEachRow\n{lines}")


def _show(site: Site, shown: str) -> None:
    """Look at them with every verb that shows them; on a page nothing becomes markup."""
    page = site.directory / "report.html"
    for command in (["history", *_DAYS], ["status", *_DAYS]):
        _done(site, command)
        json.loads(_done(site, [*command, "--json"]).stdout)
    _done(site, ["report", "--html", str(page), "--days", "3660"])
    check_page(site, page, shown)
    check_logs(site)
    site.settle()


def _done(site: Site, command: Sequence[str]) -> Ended:
    ended = site.run(["sot-ingest", *command])
    if ended.exit_code:
        site.violated(5, f"{command[0]} exited {ended.exit_code}: {ended.stderr[-500:]}")
    return ended
