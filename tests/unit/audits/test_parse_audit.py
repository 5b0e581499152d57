"""What an audit's file may say, and every mistake in one named at once."""

from __future__ import annotations

import pytest

from pipeline.audits import parse_audit
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
    "level: warn": ("", "expected one line '-- level: …'"),
    "level: warn\n": ("level: stop\n", "expected hold or warn, found 'stop'"),
    "-- level: warn": ("-- level = warn", "'level = warn' is not of the form"),
    "-- parameter most = 50": ("-- parameter most: 50", "is not of the form"),
    "parameter most = 50": ("parameter most = many", "parameter most: expected a number, found 'many'"),
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
