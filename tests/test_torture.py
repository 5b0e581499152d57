"""A few cases of each block of ``scripts/torture``, and that its oracle can say no."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import MappingProxyType

import pytest

from pipeline.tables import TABLES
from tests.torture.blocks import BLOCKS
from tests.torture.case import ONE, Case
from tests.torture.commands import Ended
from tests.torture.site import Ground, Site, ground
from tests.torture.worker import run

#: How many kinds of harm of each block; those of D, G and H each have a test of their own, without processes.
FAST = MappingProxyType({"A": 2, "B": 2, "C": 3, "D": 1, "E": 4, "F": 4, "G": 1, "H": 1, "K": 1})
SEED = 1


@pytest.fixture(scope="module")
def made() -> Iterator[Ground]:
    """A server and an S3 API for harm."""
    with ground() as made:
        yield made


def one_of_each_kind(made: Ground, letter: str) -> list[Case]:
    """Return a block's first case of each kind."""
    (block,) = (block for block in BLOCKS if block.letter == letter)
    cases = {case.kind: case for case in reversed(block.cases(made, random.Random(SEED))) if case.kind}  # noqa: S311  # repeatable
    return [case for _, case in sorted(cases.items())]


@pytest.mark.parametrize(("letter", "number"), [(letter, n) for letter, count in FAST.items() for n in range(count)])
def test_the_invariants_hold(made: Ground, letter: str, number: int) -> None:
    """After harm and recovery, in cases that are spread over a block's kinds."""
    kinds = one_of_each_kind(made, letter)
    case = kinds[number * len(kinds) // FAST[letter]]
    assert run(made, letter, case).violations == [], case.name


@pytest.fixture
def site(made: Ground) -> Iterator[Site]:
    """A deployment after a run without harm."""
    with made.site(ONE) as site:
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
