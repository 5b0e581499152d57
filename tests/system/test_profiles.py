"""What a user's profile sets makes no difference, or is an error that names the setting.

Every setting of a real server is changed in a profile of its own: of the pipeline's user, of a reader, and of the user
of the SOT ClickHouse, who may change nothing. The whole walks take half an hour (``-m slow``); a sample of each, and
what was once found, is looked at every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr

from pipeline import retry
from pipeline.clickhouse import ClickHouse
from pipeline.settings import ServerAddress
from pipeline.warehouse import PARQUET_SETTINGS, ROLE
from tests.support import profiles
from tests.support.clickhouse import ClickHouseServer
from tests.support.profiles import Difference, walk
from tests.support.setting_changes import CUTTING, Profile, every_change, in_groups
from tests.support.warehouses import Databases

pytestmark = pytest.mark.usefixtures("audited")

SHARDS = 16

#: Settings whose difference no error of ours names, with the reason.
NOT_NAMED = {
    "extremes": "of a reader: adds the extremes to the answer of the reader's own query",
    "offset": "of a reader: leaves out the first rows of the reader's own query",
    "memory_tracker_fault_probability": "is there to make ClickHouse fail in its tests",
    "unknown_packet_in_send_data": "is there to make ClickHouse fail in its tests",
}

#: Profiles that were found to change what is stored, decided or seen, without an error.
FOUND: tuple[Profile, ...] = (
    {"cast_keep_nullable": "1"},
    {"cast_keep_nullable": "1", "insert_null_as_default": "0"},
    {"deduplicate_insert": "disable"},
    {"deduplicate_insert_select": "disable"},
    {"data_type_default_nullable": "1"},
    {"use_query_cache": "1"},
    {"max_rows_in_set": "3", "set_overflow_mode": "break"},
    {"limit": "1"},
    {"offset": "1"},
    {"join_algorithm": "direct"},
    {"join_default_strictness": ""},
    {"extremes": "1"},
    {"empty_result_for_aggregation_by_empty_set": "1"},
    {"additional_result_filter": "0"},
)


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait hardly at all before what failed is tried again."""
    monkeypatch.setattr(retry, "DEFAULT", retry.RetryPolicy(first_wait=0.01, longest_wait=0.02))


def told(differences: Iterable[Difference]) -> list[str]:
    """Return the differences that no error names."""
    return [
        f"{difference.changed} = {difference.profile[difference.changed]}: {': '.join(difference.first)}"
        for difference in differences
        if not difference.is_told and difference.changed not in NOT_NAMED
    ]


def test_what_was_found_makes_no_difference(tmp_path: Path) -> None:
    """A good day, bad values, two publications upon one, two claims, verify, rollback, gc, the views: as ever."""
    with profiles.started(tmp_path / "round", [{}]) as round_:
        wanted = walk(round_, 0)
    assert "RefusedValueError" in wanted["a text that is missing"]
    assert (wanted["one publication of two"], wanted["verify after gc"]) == ("[True, False]", "[]")
    assert [each.first for each in profiles.differences(tmp_path / "found", in_groups(FOUND, len(FOUND)))] == []


def test_a_limit_is_an_error_that_names_it(tmp_path: Path) -> None:
    """With every overflow mode set to cut, nothing is cut: not at the warehouse, not in a view, not at the SOT."""
    limits = (
        "max_rows_to_read",
        "max_rows_to_read_leaf",
        "max_result_rows",
        "max_rows_to_group_by",
        "max_bytes_to_read",
    )
    cut: list[Profile] = [{**CUTTING, name: "5", "max_threads": "1", "max_block_size": "2"} for name in limits]
    found = list(profiles.differences(tmp_path / "warehouse", [[profile] for profile in cut]))
    assert told(found) == []
    assert len(found) >= len(limits) - 1
    for look in (profiles.readers_differences, profiles.sot_differences):
        assert told(look(tmp_path / look.__name__, cut)) == []


def test_a_view_shows_all_rows_whatever_a_readers_limits(tmp_path: Path) -> None:
    """Limits of sets, joins and groups in a reader's profile do not hold within a view, readonly or not."""
    limits = ("max_rows_in_set", "max_bytes_in_set", "max_rows_in_join", "max_bytes_in_join", "max_rows_to_group_by")
    cut = [{**CUTTING, name: "3", "readonly": readonly} for name in limits for readonly in ("0", "1")]
    assert [each.first for each in profiles.readers_differences(tmp_path, cut)] == []


def test_the_sot_exports_text_as_text(tmp_path: Path) -> None:
    """Whatever version its user's profile asks for; one who may change nothing is told of the setting."""
    older: list[Profile] = [{"compatibility": "23.8"}, {"output_format_parquet_string_as_string": "0"}]
    assert [each.profile for each in profiles.sot_differences(tmp_path / "may", older)] == []
    fixed = [{**profile, "readonly": "1"} for profile in older]
    said = [each.first[1] for each in profiles.sot_differences(tmp_path / "may not", fixed)]
    assert len(said) == len(fixed)
    assert all("'output_format_parquet_string_as_string'" in each and "SOT_USER" in each for each in said)


def test_a_fixed_setting_is_named(tmp_path: Path) -> None:
    """A constraint (452), a user who may change nothing (164), no DDL (392): the error names it, and what to do."""
    fixed: list[Profile] = [
        {"cast_keep_nullable": "1", "cast_keep_nullable const": ""},
        {"deduplicate_insert": "disable", "deduplicate_insert const": ""},
        {"readonly": "1"},
        {"allow_ddl": "0"},
    ]
    found = list(profiles.differences(tmp_path, [[profile] for profile in fixed]))
    assert [difference.profile for difference in found] == fixed
    for difference, code in zip(found, (452, 452, 164, 392), strict=True):
        act, said = difference.first
        assert act == "good day"
        assert f"ClickHouse error {code}" in said
        assert "CLICKHOUSE_USER" in said


def test_every_statement_pins_them(databases: Databases) -> None:
    """Over the native port, and in the embedded warehouse; each is a setting that this ClickHouse knows."""
    asked = "SELECT name, value FROM system.settings WHERE has(splitByChar(',', {names:String}), name)"
    rows = databases.new().query(asked, names=",".join(ROLE.pinned))
    assert dict(rows) == {name: str(value) for name, value in ROLE.pinned.items()}


def test_every_statement_pins_them_over_http(clickhouse: ClickHouseServer) -> None:
    """Those that the server knows, in a request line that a proxy with a limit of 4 KiB lets through."""
    address = ServerAddress(clickhouse.host, clickhouse.port, clickhouse.http_port)
    role = replace(ROLE, pinned={**ROLE.pinned, "of_a_later_version": 1})
    server = ClickHouse(address, clickhouse.user, SecretStr(clickhouse.password), secure=False, role=role)
    text = b"".join(server.receive("SELECT name, value FROM system.settings FORMAT TSV", {})).decode()
    found = dict(line.split("\t") for line in text.splitlines())
    assert {name: str(value) for name, value in ROLE.pinned.items()}.items() <= found.items()
    assert len(urlencode({**ROLE.pinned, **PARQUET_SETTINGS})) < 3_000


def numbers_and_others(server: ClickHouseServer) -> list[list[Profile]]:
    """Return groups of changes: few numbers together, for one that is a limit ends the walk of its group."""
    changes = every_change(server)
    numbers = [change for change in changes if len(change) > 1]
    return [*in_groups(numbers, 6), *in_groups([change for change in changes if len(change) == 1], 16)]


def limits_of_several_sizes(server: ClickHouseServer) -> list[Profile]:
    """Return every change, and every number with three values."""
    changes = every_change(server)
    numbers = [change for change in changes if len(change) > 1]
    more = [{**change, name: size} for change in numbers for name in [list(change)[-1]] for size in ("3", "7")]
    return [*changes, *more]


def may_change_nothing(changes: Sequence[Profile]) -> list[Profile]:
    """Return the profiles with readonly = 1, each with a single change besides."""
    alone = [{name: change[name] for name in [list(change)[-1]]} for change in changes]
    return [{**change, "readonly": "1"} for change in alone if "readonly" not in change]


Looked = Callable[[ClickHouseServer, Path, slice], Iterator[Difference]]


def of_the_pipeline(server: ClickHouseServer, directory: Path, part: slice) -> Iterator[Difference]:
    """Walk as the pipeline's user."""
    return profiles.differences(directory, numbers_and_others(server)[part])


def of_a_reader(server: ClickHouseServer, directory: Path, part: slice) -> Iterator[Difference]:
    """Read the views."""
    return profiles.readers_differences(directory, limits_of_several_sizes(server)[part])


def of_the_sot(server: ClickHouseServer, directory: Path, part: slice) -> Iterator[Difference]:
    """Export as a user who may change settings."""
    return profiles.sot_differences(directory, limits_of_several_sizes(server)[part])


def of_a_sot_that_lets_nothing_be_changed(
    server: ClickHouseServer, directory: Path, part: slice
) -> Iterator[Difference]:
    """Export as a user with readonly = 1."""
    return profiles.sot_differences(directory, may_change_nothing(limits_of_several_sizes(server)[part]))


WALKS = (of_the_pipeline, of_a_reader, of_the_sot, of_a_sot_that_lets_nothing_be_changed)


@pytest.mark.parametrize("look", WALKS)
def test_a_sample_of_all_settings(look: Looked, clickhouse: ClickHouseServer, tmp_path: Path) -> None:
    """Every so many-th setting of the server, each time the same."""
    part = slice(7, None, 200)
    assert told(look(clickhouse, tmp_path / "walk", part)) == []


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("look", WALKS)
def test_all_settings(look: Looked, shard: int, clickhouse: ClickHouseServer, tmp_path: Path) -> None:
    """Every setting of the server, in parts of which each can be run by itself: ``…[of_a_reader-3]``."""
    assert told(look(clickhouse, tmp_path / "walk", slice(shard, None, SHARDS))) == []
