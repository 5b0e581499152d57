"""The quick cases of ``scripts/torture`` about processes and hosts, and that its oracle can say no."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.tables import TABLES
from tests.torture.blocks import quick
from tests.torture.case import ONE, Case
from tests.torture.commands import Ended
from tests.torture.site import Ground, Site
from tests.torture.worker import run

CASES = quick("ABCF")


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
def test_the_invariants_hold(torture_ground: Ground, name: str, case: Case) -> None:
    """After harm and recovery."""
    assert run(torture_ground, name, case).violations == []


@pytest.fixture
def site(torture_ground: Ground) -> Iterator[Site]:
    """A deployment after a run without harm."""
    with torture_ground.site(ONE) as site:
        assert site.run().exit_code == 0
        yield site


def test_the_oracle_sees_each_violation(site: Site) -> None:
    """One after the other is made by hand; before that there is none."""
    (first,) = site.ended
    site.check_recovered([], first)
    assert site.violations == []

    files, database, http = site.files["torus"], site.database("torus"), site.ground.server.http
    values = [value.as_py() for value in files.table("raw_features")["pagerank"]]
    files.set_value("raw_features", "pagerank", 0, values[0] + 1e-3)
    site.check_rows()
    assert found(site) == ["2: torus: raw_features: readers see 1 rows that are not in the file, and do not see 1"]

    site.legal.clear()
    site.watch.look(site.ground.server)
    site.check_seen()
    assert found(site)[0].startswith("1: torus: readers saw")

    site.check_once([first, first])
    assert "4: done again: torus LoadTable raw_alerts" in found(site)

    http(f"TRUNCATE TABLE {database}.sot_publications")
    site.check_idle()
    assert any(line.startswith("3: a run with nothing to do changed") for line in found(site))

    site.check_refused(Ended((), 0, "", ""), file="alerts.parquet")
    assert [line[:2] for line in found(site)] == ["5:", "5:"]

    (site.work / "leak").write_text(f"secret={site.canaries.s3_secret}", "utf-8")
    site.check_secrets()
    assert found(site) == [f"6: s3_secret (plain) in {site.work / 'leak'}"]


def found(site: Site) -> list[str]:
    """Take what was violated since the last time, without the ends of long lines."""
    violations, site.violations[:] = [line.partition(" that are,")[0] for line in site.violations], []
    return [line.removesuffix(" that are") for line in violations]


def test_every_table_is_compared() -> None:
    """The oracle's contract has the tables of the pipeline, and no other."""
    from tests.torture.oracle import COLUMNS  # noqa: PLC0415

    assert set(COLUMNS) == {table.name for table in TABLES}
