"""The tables, as data; the only place that spells them.

A fifth table is one entry in :data:`TABLES` and its file in ``schema/``. ``raw_money_flows`` is not one
of them and never will be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

#: The id of no load.
NO_LOAD = "00000000-0000-0000-0000-000000000000"

#: Columns of a load's table that no file brings: ours, and the same for every row of a load.
CREATED_AT, LOAD_ID = "created_at", "load_id"

_COLUMN_LINE = re.compile(r"^    (?P<name>[a-z]\w*) (?P<type>[A-Z].*?),?$", re.MULTILINE)


def schema_sql(name: str, engine: str = "") -> str:
    """Return the statement that creates a table or view; ``{database}`` stands for the database's name.

    It is in ``schema/{name}.sql``, and in ``schema/view.sql`` for the views of all :data:`TABLES`; ``{default_window}``
    in it stands for the configured days of history. ``schema/whole_answer.sql`` has the settings of every view by which
    an answer that a reader's limits would cut is an error. With the ``engine`` of replicas it is their statement.
    """
    whole = _whole_publications(is_replicated=bool(engine))
    statement = _view_sql(name, whole) if name in TABLE_VIEWS else _filled(_read(name), whole)
    statement = statement.replace("{whole_answer}", _read("whole_answer").strip())
    if engine:
        statement = statement.replace("ENGINE = MergeTree\n", f"ENGINE = {engine}\n")
        for plain, replicated in _OF_REPLICAS.items():
            statement = statement.replace(plain, replicated)
    return statement


#: Settings of tables whose rows are durable, or inserted with tokens, and what replicas need for the same: a part that
#: is fetched is not synced to disk by itself, and Keeper forgets a token after an hour.
_OF_REPLICAS = {
    "fsync_part_directory = 1": "fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_fetch = 1",
    "non_replicated_deduplication_window = 1000": (
        "replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 315360000"
    ),
}


def _whole_publications(*, is_replicated: bool) -> dict[str, str]:
    """Return what keeps views from publications whose loads are not here with all their rows, as on a replica they may.

    The rows are counted from the parts' own metadata, in the snapshots of the tables that the query reads from. Of
    ``…_as_of`` such a publication shows nothing, for an older one would be another answer.
    """
    load = "load_ids['{table}']"
    if not is_replicated:
        return {"where_whole": "", "and_whole": "", "load_if_whole": load}
    counted = "\n                    UNION ALL\n                    ".join(
        f"SELECT load_id, count() FROM {{database}}.{table.loads} GROUP BY processing_date, window_days, load_id"
        for table in TABLES
    )
    incomplete = f"(\n            {_read('incomplete').strip()}\n        )".replace("{counted}", counted)
    return {
        "where_whole": f"\n        WHERE publication_id NOT IN\n        {incomplete}",
        "and_whole": f"\n                AND publication_id NOT IN\n        {incomplete}",
        "load_if_whole": f"if(publication_id IN {incomplete}, toUUID('{NO_LOAD}'), {load})",
    }


def _read(name: str) -> str:
    return (resources.files("pipeline") / "schema" / f"{name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Column:
    """A column of a ClickHouse table, its type spelled as ClickHouse spells it."""

    name: str
    type: str


def columns_of(name: str) -> tuple[Column, ...]:
    """Return the columns that ``schema/{name}.sql`` creates, in order."""
    return tuple(Column(m["name"], m["type"]) for m in _COLUMN_LINE.finditer(schema_sql(name)))


@dataclass(frozen=True)
class Table:
    """What the pipeline knows about a table that readers see."""

    name: str  #: the view's name, for example raw_alerts
    stem: str  #: of the file's name at the source, which is {stem}.parquet or raw_{stem}.parquet
    key: tuple[str, ...]  #: no two rows of a snapshot have the same
    snapshot_columns: tuple[str, ...]  #: hold the snapshot's own value; a file may leave them out
    identity: tuple[str, ...] = ()  #: what a thing is known by on another date, where the key contains the date
    dated_columns: tuple[str, ...] = ()  #: ids that contain the date
    amount: str = ""  #: the column whose largest movements are of interest
    dropped_columns: tuple[str, ...] = ("_version",)  #: a file may have them; they are not stored
    nan_columns: tuple[str, ...] = ()  #: floats that upstream computes as NaN, which pandas writes as NULL
    may_be_empty: bool = True  #: whether a snapshot without a row is believable
    is_largest: bool = False  #: whether it has about as many rows as all others together: it goes first
    shared: bool = False  #: whether the file may lie outside the snapshot's folder, for every export to overwrite

    @property
    def loads(self) -> str:
        """The name of the table that holds the rows of every load."""
        return f"{self.name}_loads"

    @property
    def file_names(self) -> tuple[str, str]:
        """The names that a manifest may call the file by."""
        return f"{self.stem}.parquet", f"raw_{self.stem}.parquet"

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that readers see, in order."""
        return tuple(column for column in columns_of(self.loads) if column.name != LOAD_ID)

    @cached_property
    def file_columns(self) -> tuple[Column, ...]:
        """The columns that a file brings, in the table's order; it may leave out :attr:`snapshot_columns`."""
        return tuple(column for column in self.columns if column.name != CREATED_AT)


_OF_SNAPSHOT = ("processing_date", "window_days")

TABLES: tuple[Table, ...] = (
    Table(
        "raw_alerts",
        "alerts",
        key=("alert_id",),
        snapshot_columns=_OF_SNAPSHOT,
        identity=("address", "typology_type"),
        dated_columns=("alert_id",),
        amount="volume_usd",
    ),
    Table(
        "raw_features",
        "features",
        key=("address",),
        snapshot_columns=_OF_SNAPSHOT,
        amount="total_volume_usd",
        nan_columns=("volume_std", "volume_cv"),
        may_be_empty=False,
        is_largest=True,
    ),
    Table(
        "raw_clusters",
        "clusters",
        key=("cluster_id",),
        snapshot_columns=_OF_SNAPSHOT,
        identity=("cluster_type", "addresses_involved"),
        dated_columns=("cluster_id", "primary_alert_id", "related_alert_ids"),
        amount="total_volume_usd",
    ),
    Table(
        "raw_address_labels",
        "address_labels",
        key=("network", "address", "label"),
        snapshot_columns=(*_OF_SNAPSHOT, "network"),
        dropped_columns=("_version", "created_timestamp", "updated_timestamp"),
        shared=True,
    ),
)


def _view_sql(name: str, whole: Mapping[str, str]) -> str:
    table, visible = TABLE_VIEWS[name]
    names = [column.name for column in table.columns]
    given = {
        "visible": _filled(_read(visible).strip(), whole),
        "view": name,
        "table": table.name,
        "loads": table.loads,
        "columns": ", ".join(names),
        "columns_of_newest": ", ".join(f"newest.{name} AS {name}" for name in names),
    }
    return _filled(_read("view"), given)


def _filled(statement: str, given: Mapping[str, str]) -> str:
    for placeholder, text in given.items():
        statement = statement.replace(f"{{{placeholder}}}", text)
    return statement


BY_NAME: dict[str, Table] = {table.name: table for table in TABLES}

#: The views of each table, and the file in ``schema/`` that says which loads they show.
TABLE_VIEWS: dict[str, tuple[Table, str]] = {
    f"{table.name}{suffix}": (table, visible)
    for suffix, visible in {"": "visible_published", "_as_of": "visible_as_of", "_newest": "visible_newest"}.items()
    for table in TABLES
}

PUBLICATIONS, LEDGER, AUDITS = "sot_publications", "sot_table_loads", "sot_audits"
STEPS, CLAIMS = "sot_steps", "sot_claims"

#: Views of the publications, a row a snapshot and a row a window.
SUMMARIES = ("sot_snapshots", "sot_freshness")
