"""Hostile strings on the command line and in the environment: refused at the door, with one line and exit code 2."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import partial

import click

from pipeline.cli import sot_ingest
from tests.torture.case import Case
from tests.torture.commands import Ended
from tests.torture.hostile import strings
from tests.torture.hostile_output import check_outside, check_printable, outside
from tests.torture.site import Site

_DAY = "2025-08-01"
_OPTIONS: dict[str, tuple[str, ...]] = {
    "--network": ("run", "--date", _DAY, "--network"),
    "--date": ("run", "--network", "torus", "--date"),
    "--window-days": ("run", "--date", _DAY, "--window-days"),
    "--table": ("rerun", "--date", _DAY, "--network", "torus", "--yes", "--table"),
    "--max-age": ("check", "--max-age"),
    "verb": (),
}


def command_cases(chance: random.Random) -> list[Case]:
    """Return a case for each option, and cases for the environment."""
    found = []
    for name, words in _OPTIONS.items():
        texts = [text for text in strings(chance, 60, nul=False) if not text.isidentifier()][:40]
        run = partial(_options, words, texts)
        found.append(Case(f"{len(texts)} hostile values of {name}", run, examples=len(texts)))
    texts = [text for text in strings(chance, 60, nul=False) if "," not in text][:40]
    run = partial(_networks, texts)
    found.append(Case(f"{len(texts)} hostile INGESTION_NETWORKS", run, examples=len(texts)))
    texts = [text for text in strings(chance, 60, nul=False) if not text.isidentifier()][:40]
    run = partial(_databases, texts)
    found.append(Case(f"{len(texts)} hostile names of databases", run, examples=len(texts)))
    return found


def _options(words: Sequence[str], texts: Sequence[str], site: Site) -> None:
    """Parse in this process: what is refused there is refused before anything is read or started."""
    before = outside(site)
    for text in texts:
        _check(site, _parsed([*words, text]), text)
    sample = site.run(["sot-ingest", *words, texts[0]])
    _check(site, sample, texts[0])
    check_outside(site, before)
    site.settle()


def _parsed(command: list[str]) -> Ended:
    """Parse a command line and return what the command would have said."""
    try:
        sot_ingest.main(command, standalone_mode=False)
    except click.ClickException as error:
        return Ended(("sot-ingest", *command), error.exit_code, "", error.format_message())
    return Ended(("sot-ingest", *command), 0, "", "")


def _check(site: Site, ended: Ended, text: str) -> None:
    if ended.exit_code != 2:
        site.violated(5, f"{text!r}: exit code {ended.exit_code}, expected 2: {ended.stdout[-300:]}")
    if "Traceback" in ended.stderr:
        site.violated(5, f"{text!r}: {ended.stderr[-300:]}")
    check_printable(site, ended)


def _networks(texts: Sequence[str], site: Site) -> None:
    site.variables["INGESTION_NETWORKS"] = ",".join(["torus", *texts])
    _configured(site, "INGESTION_NETWORKS")


def _databases(texts: Sequence[str], site: Site) -> None:
    networks = [f"n{number}" for number in range(len(texts))]
    site.variables["INGESTION_NETWORKS"] = ",".join(networks)
    for network, text in zip(networks, texts, strict=True):
        site.variables[f"{network.upper()}_CLICKHOUSE_DATABASE"] = text
    _configured(site, *(f"{network.upper()}_CLICKHOUSE_DATABASE" for network in networks))


def _configured(site: Site, *named: str) -> None:
    """Run: nothing is started, and every mistake is named."""
    before = outside(site)
    ended = site.run(["sot-ingest", "plan", "--date", _DAY])
    _check(site, ended, json.dumps(named[:1]))
    if missing := [variable for variable in named if f"{variable}:" not in ended.stderr]:
        site.violated(5, f"not named: {missing[:5]}")
    check_outside(site, before)
    site.settle()
