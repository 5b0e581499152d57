"""Which audits there are, and what ``audits.toml`` changes of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.audits.catalogue import Catalogue, load_catalogue
from pipeline.errors import ConfigError

OWN = "-- Mine.\n-- level: hold\n-- message: {x}\n-- parameter least = 1\nSELECT {least:Float64} AS x"


def load(path: Path, changes: str = "", **files: str) -> Catalogue:
    """Return the audits with an operator's directory."""
    (path / "audits.toml").write_text(changes)
    for name, text in files.items():
        (path / f"{name}.sql").write_text(text)
    return load_catalogue(path, ["torus", "bitcoin"])


def levels(catalogue: Catalogue, network: str) -> dict[str, str]:
    """Return the level of each audit of a network."""
    return {each.name: each.level for each in catalogue.chosen(network)}


def test_the_packaged_audits_are_there_without_a_directory() -> None:
    """Each says what it checks."""
    catalogue = load_catalogue(None, ["torus"])
    assert "empty_table" in levels(catalogue, "torus")
    assert all(audit.text.endswith(".") for audit in catalogue.audits.values())
    assert catalogue.own == frozenset()


def test_levels_and_thresholds_are_changed_for_all_or_one_network(tmp_path: Path) -> None:
    """What is said of one network goes before what is said of all."""
    changes = """
        [mine]
        level = "warn"
        least = 2
        [empty_table]
        level = "off"
        [network.torus.mine]
        least = 0.5
        [network.torus.empty_table]
        level = "warn"
    """
    catalogue = load(tmp_path, changes, mine=OWN)
    assert catalogue.own == {"mine"}
    torus, bitcoin = levels(catalogue, "torus"), levels(catalogue, "bitcoin")
    assert (torus["mine"], torus["empty_table"]) == ("warn", "warn")
    assert (bitcoin["mine"], bitcoin.get("empty_table")) == ("warn", None)
    least = {
        network: each.parameters["least"]
        for network in ("torus", "bitcoin")
        for each in catalogue.chosen(network)
        if each.name == "mine"
    }
    assert least == {"torus": 0.5, "bitcoin": 2}


MISTAKES = {
    '[meine]\nlevel = "off"': "[meine]: there is no audit meine (did you mean mine?)",
    '[mine]\nlevel = "of"': "[mine]: level: expected hold, warn, off, found 'of'",
    "[mine]\nleast = true": "[mine]: least: expected a finite number above 0, found True",
    "[mine]\nleast = nan": "[mine]: least: expected a finite number above 0, found nan",
    "[mine]\nleast = inf": "[mine]: least: expected a finite number above 0, found inf",
    "[mine]\nleast = 0": "[mine]: least: expected a finite number above 0, found 0",
    f"[mine]\nleast = 1{'0' * 400}": "[mine]: least: expected a finite number above 0, found 10000",
    f"[mine]\nleast = 1{'0' * 5000}": "is not TOML: ",
    "[mine]\nlast = 1": "[mine]: mine has no parameter last (did you mean least?)",
    "mine = 1": "[mine]: expected a table",
    "[network.toru.mine]\nleast = 1": "[network.toru]: toru is not in INGESTION_NETWORKS (did you mean torus?)",
    "[network.torus.meine]\nleast = 1": "[network.torus.meine]: there is no audit",
    "[network.torus]\nmine = 1": "[network.torus.mine]: expected a table",
    "[network]\ntorus = 1": "[network.torus]: expected [network.torus.AUDIT]",
    "[torus.mine]\nleast = 1": "[torus]: torus is a network: write [network.torus.mine]",
    "torus = 1": "[torus]: torus is a network: write [network.torus.AUDIT]",
    "network = 1": "network: expected [network.NAME.AUDIT]",
    "[mine": "is not TOML",
}


@pytest.mark.parametrize("changes", MISTAKES)
def test_a_mistake_in_audits_toml_is_named(tmp_path: Path, changes: str) -> None:
    """With the file and the place in it."""
    catalogue = load(tmp_path, changes, mine=OWN)
    (line,) = catalogue.mistakes
    with pytest.raises(ConfigError, match=re.escape(line)):
        catalogue.chosen("torus")
    assert line.startswith(f"{tmp_path}/audits.toml: ")
    assert MISTAKES[changes] in line


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    """In files and in what is changed; a packaged audit's name is taken."""
    (tmp_path / "latin.sql").write_bytes(b"-- \xe4")
    changes = "[nothing]\n[mine]\nleast = 3"  # of a file that cannot be read it is not known
    catalogue = load(tmp_path, changes, mine=OWN.replace("hold", "stop"), empty_table=OWN, good=OWN)
    lines = catalogue.mistakes
    assert len(lines) == 4
    assert [each.name for each in catalogue.chosen_by_operator("torus")] == ["empty_table", "good"]
    assert "latin.sql: is not UTF-8" in lines[1]
    assert "there is a packaged audit empty_table" in lines[0]


def test_a_directory_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """As is a file instead of one."""
    (line,) = load_catalogue(tmp_path / "none", ["torus"]).mistakes
    assert line.startswith(f"INGESTION_AUDITS_PATH: {tmp_path}/none cannot be read")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    """Some editors write one."""
    for name, text in {"mine.sql": OWN, "audits.toml": "[mine]\nleast = 2"}.items():
        (tmp_path / name).write_text(text, "utf-8-sig")
    catalogue = load_catalogue(tmp_path, ["torus"])
    assert catalogue.mistakes == ()
    assert catalogue.changes == {"mine": {"least": 2}}


def test_a_file_of_changes_that_cannot_be_read_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that leads nowhere; a directory in which nothing may be looked at."""
    path = tmp_path / "audits.toml"
    path.symlink_to(tmp_path / "none")
    assert load_catalogue(tmp_path, []).mistakes == (f"{path}: cannot be read: No such file or directory",)

    def lstat(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", lstat)
    assert load_catalogue(tmp_path, []).mistakes == (f"{path}: cannot be read: Permission denied",)


def test_a_packaged_audit_whose_parameter_was_changed_is_the_operators(tmp_path: Path) -> None:
    """It names the file and the value; a level alone, or the default, changes nothing that ClickHouse is asked."""
    changes = """
        stale_alerts.level = "hold"
        empty_table.rows = 8
        network.torus.stale_features.sample = 0.5
    """
    catalogue = load(tmp_path, changes, mine=OWN)
    assert [each.place for each in catalogue.chosen_by_operator("torus")] == [
        f"{tmp_path}/mine.sql",
        "stale_features with sample = 0.5 of audits.toml",
    ]
    assert [each.name for each in catalogue.chosen_by_operator("bitcoin")] == ["mine"]
