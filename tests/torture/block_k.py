"""K: a published table is altered behind our back; verify finds it, and what it says to do repairs it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from tests.support.snapshots import Bucket
from tests.torture import oracle
from tests.torture.case import Block, Case
from tests.torture.site import DAY, Ground, Site

_VERIFY = ["sot-ingest", "verify", "--date", str(DAY), "--json"]
_OF_DAY = f"processing_date = '{DAY}' AND window_days = 195"
_OTHER_DAY = date(2025, 8, 2)


@dataclass(frozen=True)
class Alteration:
    """What is done by SQL; ``{db}``, ``{loads}`` and ``{load}`` stand for database, table of loads, published load."""

    name: str
    table: str
    statements: tuple[str, ...]
    repair: tuple[str, ...] = ()  #: what the hint asks for before the command that it names


def _update(name: str, table: str, assignment: str, which: str) -> Alteration:
    """Return an alteration of the first row in the order of a key."""
    where = f"{which} = (SELECT min({which}) FROM {{loads}} WHERE load_id = '{{load}}') AND load_id = '{{load}}'"
    statement = f"ALTER TABLE {{loads}} UPDATE {assignment} WHERE {where} SETTINGS mutations_sync = 2"
    return Alteration(name, table, (statement,))


def _published(name: str, replaced: str) -> Alteration:
    """Return a publication that somebody adds by hand."""
    statement = (
        f"INSERT INTO {{db}}.sot_publications SELECT * REPLACE (published_at + 1 AS published_at, "
        f"generateUUIDv7() AS publication_id, {replaced}) FROM {{db}}.sot_publications WHERE {_OF_DAY} "
        "ORDER BY published_at DESC LIMIT 1"
    )
    return Alteration(name, "raw_alerts", (statement,))


def _ledger(name: str, changed: str) -> Alteration:
    statement = f"ALTER TABLE {{db}}.sot_table_loads {changed} load_id = '{{load}}' SETTINGS mutations_sync = 2"
    return Alteration(name, "raw_alerts", (statement,))


def _view(name: str, query: str) -> Alteration:
    """Return another view in the place of ours; there is no command that removes it."""
    statements = ("DROP VIEW {db}.raw_alerts SYNC", f"CREATE VIEW {{db}}.raw_alerts AS {query}")
    return Alteration(name, "raw_alerts", statements, ("DROP VIEW {db}.raw_alerts SYNC",))


ALTERATIONS = (
    Alteration(
        "a row removed",
        "raw_alerts",
        ("DELETE FROM {loads} WHERE alert_id = (SELECT min(alert_id) FROM {loads} WHERE load_id = '{load}')",),
    ),
    Alteration(
        "a row added",
        "raw_features",
        ("INSERT INTO {loads} SELECT * REPLACE ('0xnew' AS address) FROM {loads} WHERE load_id = '{load}' LIMIT 1",),
    ),
    Alteration(
        "a row duplicated",
        "raw_clusters",
        ("INSERT INTO {loads} SELECT * FROM {loads} WHERE load_id = '{load}' LIMIT 1",),
    ),
    Alteration(
        "a row in place of another",
        "raw_clusters",
        (
            "DELETE FROM {loads} WHERE cluster_id = (SELECT min(cluster_id) FROM {loads} WHERE load_id = '{load}')",
            "INSERT INTO {loads} SELECT * REPLACE ('new' AS cluster_id) FROM {loads} WHERE load_id = '{load}' LIMIT 1",
        ),
    ),
    _update("a value changed", "raw_clusters", "total_volume_usd = total_volume_usd + 1e-18", "cluster_id"),
    _update(
        "a bit of a Float64 flipped",
        "raw_features",
        "amount_variance = reinterpretAsFloat64(bitXor(reinterpretAsUInt64(amount_variance), 1))",
        "address",
    ),
    _update(
        "a bit of a Float32 flipped",
        "raw_features",
        "pagerank = reinterpretAsFloat32(bitXor(reinterpretAsUInt32(pagerank), 1))",
        "address",
    ),
    _update("a flag turned over", "raw_features", "is_whale = NOT is_whale", "address"),
    _update("a space behind a text", "raw_address_labels", "source = concat(source, ' ')", "address"),
    _update(
        "an element of a list doubled", "raw_features", "hourly_activity = arrayResize(hourly_activity, 25)", "address"
    ),
    Alteration(
        "two values exchanged between columns",
        "raw_features",
        (
            "ALTER TABLE {loads} UPDATE degree_in = degree_out, degree_out = degree_in WHERE load_id = '{load}' "
            "SETTINGS mutations_sync = 2",
        ),
    ),
    Alteration(
        "the partition dropped",
        "raw_address_labels",
        (f"ALTER TABLE {{loads}} DROP PARTITION ('{DAY}', 195, '{{load}}')",),
    ),
    Alteration("all rows removed", "raw_features", ("TRUNCATE TABLE {loads} SYNC",)),
    _published(
        "a load of another day named",
        "mapUpdate(load_ids, map('raw_alerts', assumeNotNull((SELECT any(load_id) FROM {loads} "
        f"WHERE processing_date = '{_OTHER_DAY}')))) AS load_ids",
    ),
    _published("no load named that exists", "mapUpdate(load_ids, map('raw_alerts', generateUUIDv4())) AS load_ids"),
    _published(
        "the load of another table named",
        "mapUpdate(load_ids, map('raw_alerts', load_ids['raw_clusters'])) AS load_ids",
    ),
    _published("a publication without a table", "mapFilter((k, v) -> k != 'raw_alerts', load_ids) AS load_ids"),
    _published("another count published", "mapUpdate(row_counts, map('raw_alerts', toUInt64(31))) AS row_counts"),
    Alteration(
        "the publication's counts altered",
        "raw_alerts",
        (
            "ALTER TABLE {db}.sot_publications UPDATE row_counts = "
            "mapUpdate(row_counts, map('raw_alerts', toUInt64(1))) WHERE 1 SETTINGS mutations_sync = 2",
        ),
    ),
    _ledger("the ledger's count altered", "UPDATE row_count = row_count + 1 WHERE"),
    _ledger(
        "the ledger's digest altered", "UPDATE content_digest = reverse(content_digest) WHERE state = 'loaded' AND"
    ),
    _ledger("the ledger's rows removed", "DELETE WHERE"),
    Alteration("the view removed", "raw_alerts", ("DROP VIEW {db}.raw_alerts SYNC",)),
    _view("a view that shows less", "SELECT * EXCEPT load_id FROM {loads} WHERE severity = 'low'"),
    _view("a view that shows other values", "SELECT * EXCEPT load_id REPLACE ('low' AS severity) FROM {loads}"),
)


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return each alteration once."""
    return [Case(alteration.name, partial(_run, alteration), kind=alteration.name) for alteration in ALTERATIONS]


def _run(alteration: Alteration, site: Site) -> None:
    _publish(site)
    if (found := _verify(site, 0)) and any(each["findings"] for each in found):
        site.violated(5, f"found before anything was done: {found}")
    _ask(site, alteration.table, alteration.statements)
    before = _content(site)
    hints = _check_found(site, alteration, _verify(site, 2))
    if _content(site) != before:
        site.violated(3, "verify changed something")
    _ask(site, alteration.table, alteration.repair)
    for hint in hints:
        _repair(site, hint)
    _verify(site, 0)
    site.check_rows()
    site.check_idle()
    site.check_secrets()


def _publish(site: Site) -> None:
    """Publish the day and another one."""
    Bucket(site.bucket).snapshot("torus", _OTHER_DAY)
    site.upload()
    for command in (site.ingest(), [*site.ingest(), "--date", str(_OTHER_DAY)]):
        if (ended := site.run(command)).exit_code:
            site.violated(0, f"{command} exited {ended.exit_code}: {ended.stderr[-500:]}")


def _ask(site: Site, table: str, statements: Sequence[str]) -> None:
    """Run statements about a table's published load."""
    server, database = site.ground.server, site.database("torus")
    newest = f"SELECT load_ids['{table}'] FROM {database}.sot_publications WHERE {_OF_DAY} ORDER BY published_at DESC"
    load = oracle.ask(server, f"{newest} LIMIT 1 FORMAT TSV").decode().strip()
    for statement in statements:
        text = statement.replace("{loads}", f"{database}.{table}_loads")
        oracle.ask(server, text.replace("{load}", load).replace("{db}", database))


def _content(site: Site) -> bytes:
    """Return what an insert or a drop changes."""
    return oracle.ask(
        site.ground.server,
        "SELECT table, sum(rows) FROM system.parts "
        f"WHERE database = '{site.database('torus')}' AND active GROUP BY ALL ORDER BY ALL FORMAT TSV",
    )


def _verify(site: Site, exit_code: int) -> list[dict[str, Any]]:
    """Return what verify says of the day."""
    ended = site.run(_VERIFY)
    if ended.exit_code != exit_code:
        site.violated(5, f"verify exited {ended.exit_code}, expected {exit_code}: {ended.stdout} {ended.stderr[-500:]}")
    found: list[dict[str, Any]] = json.loads(ended.stdout) if ended.exit_code in {0, 2} else []
    return found


def _check_found(site: Site, alteration: Alteration, found: list[dict[str, Any]]) -> list[str]:
    """Check that network, date and table are named, and no other table; return what to do."""
    hints = []
    for each in found:
        if (each["network"], each["processing_date"]) != ("torus", str(DAY)):
            site.violated(5, f"another snapshot is named: {each}")
        for finding in each["findings"]:
            about = f"{finding['table']} {finding['found']} {finding['expected']}"
            if alteration.table not in about or finding["table"] not in {alteration.table, ""}:
                site.violated(5, f"{alteration.table} is not named: {finding}")
            hints.append(str(finding["hint"]))
    if not hints:
        site.violated(2, "nothing was found")
    return sorted(set(hints))


def _repair(site: Site, hint: str) -> None:
    """Do what a hint says: the last command that it names."""
    commands = re.findall(r"sot-ingest (?:rerun|run)(?: --[a-z-]+ [\w-]+)+", hint)
    if not commands:
        site.violated(5, f"no command in the hint: {hint}")
        return
    words = commands[-1].split()
    more = ["--yes"] if words[1] == "rerun" else []
    ended = site.run([*words, *more, "--scheduler", "local"])
    if ended.exit_code:
        site.violated(5, f"{commands[-1]} exited {ended.exit_code}: {ended.stderr[-1_000:]}")


BLOCK = Block("K", "a published table altered behind our back; verify finds it", cases)
