"""Which profiles there are: one for each change of one setting of a real server, and several at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tests.support.clickhouse import ClickHouseError, ClickHouseServer

Profile = Mapping[str, str]  #: values by the names of settings

#: Every overflow mode that cuts, whatever the limit is.
CUTTING = dict.fromkeys(
    (
        *("distinct_overflow_mode", "join_overflow_mode", "read_overflow_mode", "read_overflow_mode_leaf"),
        *("result_overflow_mode", "set_overflow_mode", "sort_overflow_mode", "timeout_overflow_mode"),
        *("timeout_overflow_mode_leaf", "transfer_overflow_mode", "group_by_overflow_mode"),
    ),
    "break",
)
_NUMBERS = frozenset(
    {"UInt64", "Int64", "Int32", "NonZeroUInt64", "UInt64Auto", "MaxThreads", "Float", "Double", "FloatAuto"}
    | {"Milliseconds", "Seconds"}
)
_TEXTS = frozenset({"String", "Char", "Map", "URI", "Timezone"})


def every_change(server: ClickHouseServer) -> list[Profile]:
    """Return a profile for each change of one setting: every Bool, every other value of an enumeration, every number.

    A number comes with every overflow mode that cuts, so that one that is a limit cuts too.
    """
    rows = server.http(
        "SELECT name, type, default FROM system.settings WHERE NOT is_obsolete AND alias_for = '' ORDER BY name"
    )
    settings = [line.split("\t") for line in rows.splitlines()]
    found: list[Profile] = []
    for name, kind, default in settings:
        if kind in {"Bool", "BoolAuto"}:
            found.append({name: "0" if default == "1" else "1"})
        elif "_bandwidth" in name:
            continue  # a byte a second is no limit of an answer, and takes for ever
        elif kind in _NUMBERS:
            found.append({**CUTTING, name: "1" if default != "1" else "2"})
        elif kind not in _TEXTS:
            found += [{name: value} for value in _values(server, name) if value != default]
    return found


def _values(server: ClickHouseServer, name: str) -> list[str]:
    """Return the values of an enumeration, which ClickHouse lists when it is given another."""
    try:
        server.http(f"SELECT 1 SETTINGS {name} = '?'")
    except ClickHouseError as error:
        return re.findall(r"'([^']*)'", str(error).partition("Must be one of")[2])
    return []


def in_groups(profiles: Iterable[Profile], size: int) -> list[list[Profile]]:
    """Return profiles in groups of which no two change the same setting to different values."""
    groups: list[list[Profile]] = []
    for profile in profiles:
        for group in reversed(groups[-4:]):
            merged = merge(group)
            if len(group) < size and all(merged.get(name, value) == value for name, value in profile.items()):
                group.append(profile)
                break
        else:
            groups.append([profile])
    return groups


def merge(profiles: Iterable[Profile]) -> dict[str, str]:
    """Return one profile with the changes of several."""
    return {name: value for profile in profiles for name, value in profile.items()}
