"""What an audit's file may say, and every mistake in one named at once."""

from __future__ import annotations

import re

import pytest

from pipeline.audits import parse_audit, replace_placeholders
from pipeline.errors import ConfigError

GOOD = """-- Alerts of one address.
-- Of which there are few.
-- level: warn
-- message: {address} has {found} alerts,
--    at most {most} are usual
-- parameter most = 50
-- parameter share = .5

SELECT address, count() AS found, {most:UInt32} AS most FROM {raw_alerts} -- {raw_alerts_before}
GROUP BY address HAVING found > most * {share: Float64};
"""


def test_a_file_is_read() -> None:
    """Sentences, headers, thresholds, and one SELECT, whose semicolon is not part of it."""
    audit = parse_audit("crowded", "crowded.sql", GOOD)
    assert audit.text == "Alerts of one address. Of which there are few."
    assert (audit.level, audit.message) == ("warn", "{address} has {found} alerts, at most {most} are usual")
    assert audit.parameters == {"most": 50, "share": 0.5}
    assert audit.sql.startswith("SELECT")
    assert audit.sql.endswith("{share: Float64}")
    assert (audit.placeholders, audit.tables) == ({"raw_alerts", "raw_alerts_before"}, {"raw_alerts"})


MISTAKES = {
    "level: warn": ("", "expected one line '-- level: …' in the first comment, which ends with line 7, found 0"),
    "-- level": (
        "\n-- level",
        "expected one line '-- message: …' in the first comment, which ends with line 2, found 0",
    ),
    "level: warn\n": ("level: stop\n", "expected hold or warn, found 'stop'"),
    "-- level: warn": ("-- level = warn", "'level = warn' is not of the form"),
    "-- parameter most = 50": ("-- parameter most: 50", "is not of the form"),
    "parameter most = 50": ("parameter most = many", "parameter most: expected a finite number above 0, found 'many'"),
    "= .5": ("= -.5", "parameter share: expected a finite number above 0, found '-.5'"),
    "= 50": (f"= 1{'0' * 400}", "parameter most: expected a finite number above 0, found '1000"),
    "parameter share = .5": ("parameter most = .5", "parameter most: expected a name of its own"),
    "{raw_alerts}": ("{raw_alert}", "{raw_alert} is no placeholder (did you mean raw_alerts?)"),
    "{most:UInt32}": ("{moist:UInt32}", "{moist:…} is no parameter (did you mean most?)"),
    " * {share: Float64}": ("", "parameter share is not used"),
    "-- Alerts of one address.\n-- Of which there are few.\n": ("", "does not say what it checks"),
}


@pytest.mark.parametrize("right", MISTAKES)
def test_a_mistake_is_named(right: str) -> None:
    """With the file that it is in."""
    wrong, said = MISTAKES[right]
    with pytest.raises(ConfigError) as caught:
        parse_audit("crowded", "/etc/crowded.sql", GOOD.replace(right, wrong))
    lines = str(caught.value).splitlines()
    assert any(said in line for line in lines), lines
    assert all(line.startswith("/etc/crowded.sql: ") for line in lines)


def test_all_mistakes_are_named_at_once() -> None:
    """A file without anything lacks everything, and its name is no word."""
    with pytest.raises(ConfigError) as caught:
        parse_audit("Crowded-1", "x", "")
    assert len(str(caught.value).splitlines()) == 5
    assert "'-- level: …' in a comment before the SELECT, found 0" in str(caught.value)


def test_the_name_network_is_taken() -> None:
    """By the sections of audits.toml."""
    with pytest.raises(ConfigError, match="the name is taken"):
        parse_audit("network", "network.sql", GOOD)


@pytest.mark.parametrize("text", ["'^0x[0-9a-f]{40}$'", "'{1,3}'", "'{ 40 }'", "'{}'"])
def test_braces_without_a_name_are_left_as_they_are(text: str) -> None:
    """Those of a regular expression, say."""
    audit = parse_audit("crowded", "crowded.sql", GOOD.replace("GROUP BY", f"WHERE {text} GROUP BY"))
    rows = dict.fromkeys(audit.placeholders, "SELECT 1")
    filled = replace_placeholders(audit.sql, rows)
    assert text in filled
    assert "FROM (SELECT 1) -- (SELECT 1)" in filled
    assert "{share: Float64}" in filled


TABLES = {
    "FROM raw_alerts": "{raw_alerts}",
    "FROM torus.raw_alerts AS a": "{raw_alerts}",
    "FROM {row_counts} AS a JOIN `torus`.`raw_features_loads` USING (x)": "{raw_features}",
    "FROM {row_counts} WHERE rows IN /* all */ (SELECT 1 FROM sot_audits)": "a placeholder (raw_",
    "FROM {row_counts} WHERE table = 'from raw_alerts'": "",
    "FROM {raw_alerts} raw_alerts -- from raw_alerts": "",
    "FROM raw_mine": "a placeholder (raw_",
    "FROM (WITH raw_mine AS (SELECT 1 FROM {raw_alerts}) SELECT * FROM raw_mine)": "",
}


@pytest.mark.parametrize("rows", TABLES)
def test_a_table_is_read_by_a_placeholder_alone(rows: str) -> None:
    """What stands in a view or under another load is not what is about to be published."""
    text = f"-- Mine.\n-- level: hold\n-- message: x\nSELECT 1 AS x {rows}"
    if not TABLES[rows]:
        parse_audit("mine", "mine.sql", text)
        return
    with pytest.raises(ConfigError, match=re.escape(f"to be published: write {TABLES[rows]}")):
        parse_audit("mine", "mine.sql", text)


@pytest.mark.parametrize(
    ("rows", "compares"),
    [
        ("{raw_alerts}", ""),
        ("{row_counts} AS a, {row_counts_before}", "all"),
        ("{raw_alerts_before}", "all"),
        ("{days_before}", "all"),
        ("{raw_alerts} AS a, {raw_alerts_nearest} AS b", "nearest"),
        ("{raw_alerts_nearest} AS a, {days_before} AS b", "nearest"),
        ("{raw_alerts_nearest} AS a, {row_counts_before} AS b", "all"),
    ],
)
def test_an_audit_compares_with_the_days_that_it_reads(rows: str, compares: str) -> None:
    """The list of days beside the rows of the nearest one says how far away that is."""
    text = f"-- Mine.\n-- level: hold\n-- message: x\nSELECT 1 AS x FROM {rows}"
    assert parse_audit("mine", "mine.sql", text).compares == compares
