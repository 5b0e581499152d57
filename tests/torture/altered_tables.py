"""K: a published table is altered behind our back; verify finds it, and what it says to do repairs it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import zip_longest
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
    return Alteration(name, "raw_clusters", (statement,))


_NO_VIEW = ("DROP VIEW {db}.raw_address_labels SYNC",)


def _view(name: str, query: str) -> Alteration:
    """Return another view in the place of ours; there is no command that removes it."""
    statements = (*_NO_VIEW, f"CREATE VIEW {{db}}.raw_address_labels AS {query}")
    return Alteration(name, "raw_address_labels", statements, _NO_VIEW)


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
    Alteration("the view removed", "raw_address_labels", _NO_VIEW),
    _view("a view that shows less", "SELECT * EXCEPT load_id FROM {loads} WHERE address_type = 'exchange'"),
    _view("a view that shows other values", "SELECT * EXCEPT load_id REPLACE ('low' AS risk_level) FROM {loads}"),
)


def cases(_: Ground, __: random.Random) -> list[Case]:
    """Return each alteration once."""
    return [Case(alteration.name, partial(_run, [[alteration]])) for alteration in ALTERATIONS]


#: What tests/system/test_verify.py does to tables, too, and values changed in a way of which another one is here.
_ELSEWHERE = {
    *("a row duplicated", "a value changed", "the partition dropped", "no load named that exists"),
    *("a publication without a table", "another count published"),
    *("a bit of a Float64 flipped", "a flag turned over", "two values exchanged between columns"),
}


def _lots() -> list[list[Alteration]]:
    """Return the others in as few lots as there can be when each of a lot is of another table."""
    chosen = [one for one in ALTERATIONS if one.name not in _ELSEWHERE]
    by_table = [[one for one in chosen if one.table == table] for table in oracle.COLUMNS]
    return [[one for one in lot if one] for lot in zip_longest(*by_table)]


def _run(lots: Sequence[Sequence[Alteration]], site: Site) -> None:
    """Alter tables that are published, verify, and repair, lot by lot."""
    _publish(site)
    _check_found(site, [], _verify(site, 0))
    for lot in lots:
        for alteration in lot:
            _ask(site, alteration.table, alteration.statements)
        before = _content(site)
        hints = _check_found(site, lot, _verify(site, 3))
        if _content(site) != before:
            site.violated(3, "verify changed something")
        for alteration in lot:
            _ask(site, alteration.table, alteration.repair)
        _repair(site, hints)
        site.check_rows()
    _check_found(site, [], _verify(site, 0))
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
    found: list[dict[str, Any]] = json.loads(ended.stdout) if ended.exit_code in {0, 3} else []
    return found


def _check_found(site: Site, lot: Sequence[Alteration], found: list[dict[str, Any]]) -> list[str]:
    """Check that network, date and each table altered are named, and no other table; return what to do."""
    altered = {alteration.table for alteration in lot}
    named: set[str] = set()
    hints: set[str] = set()
    for each in found:
        if (each["network"], each["processing_date"]) != ("torus", str(DAY)):
            site.violated(5, f"another snapshot is named: {each}")
        for finding in each["findings"]:
            if not (tables := _tables(finding)) or tables - altered:
                site.violated(5, f"altered were {altered or 'no tables'}: {finding}")
            named |= tables
            hints.add(str(finding["hint"]))
    for table in altered - named:
        site.violated(2, f"nothing was found about {table}")
    return sorted(hints)


def _tables(finding: dict[str, Any]) -> set[str]:
    """Return the table that a finding is about, or those that a publication lacks."""
    if finding["table"]:
        return {finding["table"]}
    return {table for table in oracle.COLUMNS if table in finding["expected"] and table not in finding["found"]}


def _repair(site: Site, hints: Sequence[str]) -> None:
    """Do what hints say: the last command that each names; when there are several, once for all tables."""
    commands = set()
    for hint in hints:
        named = re.findall(r"sot-ingest (?:rerun|run)(?: --[a-z-]+ [\w-]+)+", hint)
        if not named:
            site.violated(5, f"no command in the hint: {hint}")
        commands.update(named[-1:])
    if len(commands) > 1:
        commands = {command.partition(" --table")[0] for command in commands}
    for command in commands:
        words = command.split()
        more = ["--yes"] if words[1] == "rerun" else []
        ended = site.run([*words, *more, *site.alone])
        if ended.exit_code:
            site.violated(5, f"{command} exited {ended.exit_code}: {ended.stderr[-1_000:]}")


BLOCK = Block(
    "K",
    "a published table altered behind our back; verify finds it",
    cases,
    [Case("each kind of alteration, of four tables at once", partial(_run, _lots()))],
)
