"""I: hostile strings wherever one reaches SQL, a path, a log or a page; an example is one string in one place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from tests.support.packaged_audits import switched_off
from tests.support.snapshots import SnapshotFiles
from tests.torture.case import Block, Case
from tests.torture.defect import ALERTS, CLUSTERS, FEATURES, LABELS
from tests.torture.hostile import strings
from tests.torture.hostile_commands import command_cases
from tests.torture.hostile_output import check_logs, check_outside, outside
from tests.torture.hostile_pages import of_publications, of_steps
from tests.torture.site import Ground, Site

_TABLES = {ALERTS: 30, FEATURES: 50, CLUSTERS: 20, LABELS: 40}
_OF_SNAPSHOT = {"network", "processing_date", "window_days"}
_MOST_NAME = 255


def cases(_: Ground, chance: random.Random) -> list[Case]:
    """Return cases with many strings each, about a thousand and a half in all."""
    return [*_quick(chance), *_more(chance)]


def _quick(chance: random.Random) -> list[Case]:
    """Return a case for SQL, one for paths, and those for logs, command lines and pages."""
    texts = {table: strings(chance, rows) for table, rows in _TABLES.items()}
    unsafe, columns, keys = _unsafe(chance), strings(chance, 80, nul=False), strings(chance, 3)
    return [
        _case("values of every string column and list", _cells(), partial(_texts, texts)),
        _case("file names that are refused, in log, steps and history", len(unsafe) * 3, partial(_names, unsafe)),
        _case("column names that are refused, in log and hint", 2 * len(columns), partial(_columns, columns)),
        _case("keys that stand twice, in log and history", 3 * len(keys), partial(_keys, keys)),
        *command_cases(chance),
        of_steps(chance),
    ]


def _more(chance: random.Random) -> list[Case]:
    listed = [text for text in strings(chance, 400, nul=False) if _is_file_name(text)][:100]
    members, columns, unsafe = strings(chance, 100), strings(chance, 80, nul=False), _unsafe(chance)
    return [
        _case("file names in the manifest that are not ours", len(listed), partial(_listed, listed)),
        _case("members of the manifest that nobody knows", 2 * len(members), partial(_members, members)),
        _case("values of the manifest that are refused", len(unsafe) * 3, partial(_values, unsafe)),
        _case("column names that are left out", len(columns), partial(_ignored, columns)),
        _case("column names that stand twice", len(columns), partial(_twice, columns)),
        of_publications(chance),
    ]


def _unsafe(chance: random.Random) -> list[str]:
    """Return strings that are no names of files."""
    return [text for text in strings(chance, 200) if not _is_file_name(text)][:4]


def _case(name: str, examples: int, run: partial[None]) -> Case:
    return Case(f"{examples} hostile {name}", run, examples=examples)


def _cells() -> int:
    """Return how many strings :func:`_texts` places: string columns and lists, by rows."""
    return 30 * 11 + 50 * 3 + 20 * 8 + 40 * 8


def _is_file_name(text: str) -> bool:
    unsafe = not text.isprintable() or any(part in text for part in ("/", "\\", "..")) or text in {"", "."}
    return not unsafe and len(text.encode()) <= _MOST_NAME


def _accepted(site: Site) -> None:
    """Run: all is loaded, nothing is written elsewhere, each event is a line."""
    before = outside(site)
    site.upload()
    ended = site.run()
    check_outside(site, before)
    site.check_recovered([], ended)
    check_logs(site)


def _refused(site: Site, file: str) -> None:
    """Run, log in text too: exit 30, one event a line, nothing elsewhere, and readers see nothing."""
    before = outside(site)
    _fails(site, file)
    site.variables["LOG_FORMAT"] = "text"
    if (ended := site.run()).exit_code != 30:
        site.violated(5, f"exit code {ended.exit_code}, expected 30")
    site.variables.clear()
    site.run(["sot-ingest", "history", "--date", "2025-08-01"])
    check_outside(site, before)
    check_logs(site)
    site.settle()


def _fails(site: Site, file: str) -> None:
    site.upload()
    site.check_refused(site.run(), file=file)


def _listed(names: Sequence[str], site: Site) -> None:
    site.files["torus"].edit_manifest(lambda meta: meta["sha256"].update(dict.fromkeys(names, "0" * 64)))
    _accepted(site)


def _members(texts: Sequence[str], site: Site) -> None:
    def edit(meta: dict[str, object]) -> None:
        meta.update({text: texts for text in texts if text not in meta})
        meta["batch_id"] = "".join(texts)

    site.files["torus"].edit_manifest(edit)
    _accepted(site)


def _names(names: Sequence[str], site: Site) -> None:
    _spoil_each(site, [partial(_named, name) for name in names])


def _named(name: str, meta: dict[str, dict[str, str]]) -> None:
    meta["sha256"][name] = "0" * 64


def _values(texts: Sequence[str], site: Site) -> None:
    members = ("network", "processing_date", "window_days", "schema_version")
    _spoil_each(site, [partial(_valued, member, text) for text, member in zip(texts, members, strict=True)])


def _spoil_each(site: Site, edits: Sequence[partial[None]]) -> None:
    """Run with one defect after the other; look at log and history with the last."""
    good = site.files["torus"].manifest_path.read_bytes()
    for edit in edits:
        site.files["torus"].manifest_path.write_bytes(good)
        site.files["torus"].edit_manifest(edit)
        _fails(site, "META.json")
    _refused(site, "META.json")


def _valued(member: str, text: str, meta: dict[str, object]) -> None:
    meta[member] = text


def _columns(names: Sequence[str], site: Site) -> None:
    _add_columns(site.files["torus"], names)
    _refused(site, "alerts.parquet")


def _ignored(names: Sequence[str], site: Site) -> None:
    _add_columns(site.files["torus"], names)
    site.variables["INGESTION_IGNORE_EXTRA_COLUMNS"] = "true"
    _accepted(site)


def _twice(names: Sequence[str], site: Site) -> None:
    _add_columns(site.files["torus"], [name for name in names for _ in range(2)])
    _refused(site, "alerts.parquet")


def _add_columns(files: SnapshotFiles, names: Sequence[str]) -> None:
    data = files.table(ALERTS)
    columns = [*data.columns, *([pa.array([1.5] * data.num_rows)] * len(names))]
    files.replace_table(ALERTS, pa.Table.from_arrays(columns, names=[*data.column_names, *names]))


def _texts(texts: dict[str, list[str]], site: Site) -> None:
    """Fill every column of text, each with the same strings in another order: keys stay unique."""
    files = site.files["torus"]
    for table, drawn in texts.items():
        data = files.table(table)
        for position, column in enumerate(data.schema):
            if column.name in _OF_SNAPSHOT:
                continue
            turned = [*drawn[position:], *drawn[:position]]
            if pa.types.is_large_string(column.type):
                data = data.set_column(position, column, pa.array(turned, column.type))
            elif pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
                lists = [[text, *turned[:3]] for text in turned]
                data = data.set_column(position, column, pa.array(lists, column.type))
        files.replace_table(table, data)
    site.variables |= switched_off(site.directory)  # severities are none of upstream's
    _accepted(site)


def _keys(texts: Sequence[str], site: Site) -> None:
    files = site.files["torus"]
    rest = files.table(ALERTS)["alert_id"].to_pylist()[2 * len(texts) :]
    files.set_column(ALERTS, "alert_id", pa.array([*texts, *texts, *rest], pa.large_string()))
    _refused(site, "alerts.parquet")


BLOCK = Block(
    "I",
    "hostile strings in every place that reaches SQL, a path, a log or a page",
    cases,
    _quick(random.Random(1)),  # noqa: S311  # repeatable
)
