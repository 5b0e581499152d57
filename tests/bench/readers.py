"""The part "what it costs readers": queries through the views, and on bare tables that hold the published rows only.

Both have the same rows in the same order with the same indexes; the loads have those of two superseded versions of
every date as well. The newest date is as large as upstream's largest, the others are small.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import urllib3

from pipeline.tables import PUBLICATIONS, TABLES, Table, schema_sql
from tests.bench.cost import Spread
from tests.bench.rig import CACHE, SNAPSHOT, Files
from tests.support.clickhouse import ClickHouseError, OwnClickHouse
from tests.support.pages import table

DATES, VERSIONS, SMALL = 195, 3, 200  #: dates, loads of each, and how many times smaller all but the newest are
TIMES = 25  #: that each query is asked, in turn with the other
NETWORK = SNAPSHOT.network
_DAY = "processing_date = '{day}' AND window_days = 195"


_ADDRESS = "address = '{address}'"


@dataclass(frozen=True)
class Query:
    """A typical query; ``{db}`` is where its tables are, ``{day}`` the newest date, ``{address}`` one of it."""

    title: str
    kind: str  #: scan of a date, its first rows, point look-up, or all dates
    sql: str


def _scan(title: str, what: str, stem: str, rest: str = "") -> Query:
    return Query(title, "scan", f"SELECT {what} FROM {{db}}.raw_{stem} WHERE {_DAY} {rest}")


def _point(title: str, what: str, stem: str, where: str = _ADDRESS) -> Query:
    return Query(title, "point", f"SELECT {what} FROM {{db}}.raw_{stem} WHERE {_DAY} AND {where} ORDER BY 1")


QUERIES = (
    _scan("mean score and sum of volumes", "round(avg(pagerank), 3), sum(total_volume_usd)", "features"),
    _scan("largest by volume", "address, total_volume_usd", "features", "ORDER BY total_volume_usd DESC LIMIT 100"),
    _scan("communities", "community_id, count(), max(pagerank)", "features", "GROUP BY community_id ORDER BY 1"),
    _scan("alerts by severity", "severity, count(), sum(volume_usd)", "alerts", "GROUP BY severity ORDER BY 1"),
    Query(
        "features joined with labels",
        "scan",
        "SELECT label, count(), max(pagerank) FROM {db}.raw_features INNER JOIN {db}.raw_address_labels "
        f"USING (processing_date, window_days, address) WHERE {_DAY} GROUP BY label ORDER BY label",
    ),
    Query(
        "ten rows of a date",
        "first rows",
        f"SELECT countIf(address != '') FROM (SELECT * FROM {{db}}.raw_features WHERE {_DAY} LIMIT 10)",
    ),
    _point("all features of an address", "* EXCEPT (created_at, load_id)", "features"),
    _point("a score of an address", "pagerank", "features"),
    _point("labels of an address", "label", "address_labels"),
    _point("alerts of an address", "alert_id, severity", "alerts"),
    _point("a cluster by its id", "cluster_type, total_volume_usd", "clusters", "cluster_id = 'cluster_7'"),
    Query(
        "an address on every date",
        "all dates",
        f"SELECT processing_date, pagerank FROM {{db}}.raw_features WHERE {_ADDRESS} AND window_days = 195 ORDER BY 1",
    ),
    Query(
        "alerts a date",
        "all dates",
        "SELECT processing_date, count() FROM {db}.raw_alerts WHERE window_days = 195 GROUP BY 1 ORDER BY 1",
    ),
)


@dataclass
class Readers:
    """A server with many published dates, asked over one connection that stays open."""

    server: OwnClickHouse
    http: urllib3.PoolManager
    versions: int = VERSIONS  #: loads of each date
    address: str = ""

    def ask(self, statement: str, **settings: int) -> str:
        """Run a statement and return the answer. Raises ClickHouseError."""
        headers = {"X-ClickHouse-User": self.server.user, "X-ClickHouse-Key": self.server.password}
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        url = f"http://{self.server.host}:{self.server.http_port}/?{query}"
        answer = self.http.request("POST", url, body=statement.encode(), headers=headers, timeout=3_600, retries=False)
        if answer.status != 200:
            raise ClickHouseError(answer.data.decode("utf-8", "replace"))
        return answer.data.decode()

    def sql(self, query: Query, database: str) -> str:
        """Return a query's text; its address is one that every table has on every date."""
        day = SNAPSHOT.processing_date
        if not self.address:
            some = f"SELECT min(address) FROM bare.raw_alerts WHERE cityHash64(address) % {SMALL} = 0"
            self.address = self.ask(some).strip()
        return query.sql.format(db=database, day=day, address=self.address)

    def fill(self, dates: int) -> None:
        """Make the tables, and publish so many dates."""
        for database in (NETWORK, "bare"):
            self.ask(f"CREATE DATABASE {database}")
        self.ask(schema_sql(PUBLICATIONS).replace("{database}", NETWORK))
        for made in TABLES:
            self.ask(schema_sql(made.loads).replace("{database}", NETWORK))
            self.ask(schema_sql(made.name).replace("{database}", NETWORK))
            self.ask(schema_sql(made.loads).replace(f"{{database}}.{made.loads}", f"bare.{made.name}"))
            columns = ", ".join(column.name for column in made.file_columns if column.name not in made.snapshot_columns)
            source = f"file('{_local(self.server, made.name)}', Parquet)"
            self.ask(f"CREATE TABLE {NETWORK}.first_{made.name} AS {NETWORK}.{made.loads}")
            self.ask(f"INSERT INTO {NETWORK}.first_{made.name} ({columns}) SELECT {columns} FROM {source}")
        self.publish(0, dates)

    def publish(self, first: int, last: int) -> None:
        """Load and publish dates, 0 is the newest, in all versions, by SQL; the bare tables get the published ones."""
        for made in TABLES:
            self._load(made, first, last)
        load_ids = ", ".join(f"'{made.name}', {_load_id(made)}" for made in TABLES)
        self.ask(
            f"INSERT INTO {NETWORK}.{PUBLICATIONS} (processing_date, window_days, load_ids, published_at) "
            f"SELECT day, 195, map({load_ids}), "
            f"toDateTime64(day, 6, 'UTC') + toIntervalHour(version) FROM {self._loads(first, last)}"
        )

    def _load(self, made: Table, first: int, last: int) -> None:
        """Append loads of a table: the newest date's is whole, the others' a part, each in a partition."""
        columns = [column.name for column in made.file_columns if column.name not in made.snapshot_columns]
        constants = {"processing_date": "day", "window_days": "195", "network": f"'{NETWORK}'"}
        values = ", ".join((*columns, *(constants[name] for name in made.snapshot_columns), _load_id(made)))
        names = ", ".join((*columns, *made.snapshot_columns, "load_id"))
        key = "address" if "address" in columns else made.key[0]
        for begin, end, part in ((first, min(last, 1), "1"), (max(first, 1), last, f"cityHash64({key}) % {SMALL} = 0")):
            rows = f"(SELECT * FROM {NETWORK}.first_{made.name} WHERE {part}) AS rows"
            loads = f"SELECT {values} FROM {self._loads(begin, end)} AS loads CROSS JOIN {rows}"
            newest = f"{loads} WHERE version = {self.versions - 1}"
            for into, select in ((f"{NETWORK}.{made.loads}", loads), (f"bare.{made.name}", newest)):
                self.ask(f"INSERT INTO {into} ({names}) {select}", max_partitions_per_insert_block=0, max_threads=1)

    def _loads(self, first: int, last: int) -> str:
        """Return a subquery of days, the newest is day 0, and versions."""
        begin, count = first * self.versions, max(last - first, 0) * self.versions
        return (
            f"(SELECT toDate('{SNAPSHOT.processing_date}') - intDiv(number, {self.versions}) AS day, "
            f"number % {self.versions} AS version FROM numbers({begin}, {count}))"
        )


def _load_id(made: Table) -> str:
    return f"toUUID(UUIDNumToString(MD5(concat(toString(day), toString(version), '{made.name}'))))"


def _local(server: OwnClickHouse, name: str) -> Path:
    return server.directory / "data" / "user_files" / f"{name}.parquet"


@contextmanager
def readers(files: Files, dates: int = DATES, versions: int = VERSIONS) -> Iterator[Readers]:
    """Start a server and publish dates on it, each in so many versions."""
    with (
        TemporaryDirectory(dir=CACHE, prefix="readers-") as name,
        OwnClickHouse(Path(name)) as server,
        urllib3.PoolManager(maxsize=1) as http,
    ):
        for made in TABLES:
            local = _local(server, made.name)
            local.parent.mkdir(parents=True, exist_ok=True)
            local.hardlink_to(files.path(made))
        found = Readers(server, http, versions)
        found.fill(dates)
        yield found


@dataclass(frozen=True)
class Compared:
    """One query, both ways."""

    query: Query
    through_view: Spread  #: ms
    bare: Spread  #: ms
    parts: str  #: parts of the table that are read of all there are, by EXPLAIN indexes = 1


def compare(asked: Readers) -> list[Compared]:
    """Ask every query through the views and of the bare tables. Raises ValueError when the answers differ."""
    found = []
    for query in QUERIES:
        sql = {database: asked.sql(query, database) for database in (NETWORK, "bare")}
        if (seen := asked.ask(sql[NETWORK])) != asked.ask(sql["bare"]) or not seen:
            raise ValueError(f"{query.title}: the view and the bare table differ, or have nothing")
        spreads = ask_in_turn(asked, query, (NETWORK, "bare"))
        parts = parts_read(asked.ask(f"EXPLAIN indexes = 1 {sql[NETWORK]}"))
        found.append(Compared(query, spreads[NETWORK], spreads["bare"], parts))
    return found


def ask_in_turn(asked: Readers, query: Query, databases: tuple[str, ...]) -> dict[str, Spread]:
    """Return the milliseconds that a query takes in each database."""
    sql = {database: asked.sql(query, database) for database in databases}
    taken: dict[str, list[float]] = {database: [] for database in databases}
    for _ in range(TIMES):
        for database, statement in sql.items():
            started = perf_counter()
            asked.ask(statement)
            taken[database].append(1_000 * (perf_counter() - started))
    return {database: Spread(tuple(values)) for database, values in taken.items()}


LADDER = (
    "Where it goes, ms: *any view* is one of the bare table that does nothing but name its columns, the least that a "
    "view costs; *named* is a view of the loads whose condition names the ids of those published; *looked up* "
    "finds them in `sot_publications` first; *the view* takes care besides that `sot_publications` is the table whose "
    "snapshot a query takes first, so that no date is ever empty to it."
)
_ANY = "SELECT {columns} FROM bare.{view}"
_NAMED = "SELECT {columns} FROM {database}.{loads} PREWHERE load_id IN ({ids})"
_LOOKED_UP = """
    SELECT {columns} FROM {database}.{loads} PREWHERE load_id IN
    (
        SELECT argMax(load_ids['{view}'], (published_at, mapValues(load_ids)))
        FROM {database}.sot_publications
        GROUP BY processing_date, window_days
    )
"""


def ladder(asked: Readers) -> list[tuple[Query, dict[str, Spread]]]:
    """Ask one query of each kind of views that do less and less of what the pipeline's do."""
    views = {"any_view": _ANY, "named": _NAMED, "looked_up": _LOOKED_UP}
    for database, text in views.items():
        asked.ask(f"CREATE DATABASE {database}")
        for made in TABLES:
            columns = ", ".join(column.name for column in made.columns)
            quoted = "concat('\\'', toString(id), '\\'')"
            ids = asked.ask(f"SELECT arrayStringConcat(groupArray({quoted}), ', ') FROM {_published(made)}")
            view = text.format(columns=columns, database=NETWORK, loads=made.loads, view=made.name, ids=ids.strip())
            asked.ask(f"CREATE VIEW {database}.{made.name} AS {view}")
    chosen = [next(query for query in QUERIES if query.kind == kind) for kind in ("scan", "point", "all dates")]
    return [(query, ask_in_turn(asked, query, ("bare", *views, NETWORK))) for query in chosen]


def _published(made: Table) -> str:
    """Return a subquery of the ids of the loads that readers see."""
    newest = f"argMax(load_ids['{made.name}'], (published_at, mapValues(load_ids)))"
    return f"(SELECT {newest} AS id FROM {NETWORK}.{PUBLICATIONS} GROUP BY processing_date, window_days) FORMAT TSVRaw"


def _rungs(found: list[tuple[Query, dict[str, Spread]]]) -> str:
    rows = [(query.title, *(spread.text() for spread in spreads.values())) for query, spreads in found]
    return table(("query", "bare table", "any view", "named", "looked up", "the view"), rows)


def parts_read(explained: str) -> str:
    """Return the parts that are read of a load's table and all that there are, as EXPLAIN indexes = 1 tells."""
    found = []
    for reading in explained.split("ReadFromMergeTree")[1:]:
        if "_loads" not in reading.splitlines()[0]:
            continue
        counts = re.findall(r"Parts: (\d+)/(\d+)", reading)
        found.append(f"{counts[-1][0]} of {counts[0][1]}" if counts else "all")
    return ", ".join(found)


def report(files: Files, dates: int = DATES) -> str:
    """Measure, and return the part of the page."""
    with readers(files, dates) as asked:
        found, rungs = compare(asked), ladder(asked)
        rows = asked.ask("SELECT sum(rows) FROM system.parts WHERE active AND table LIKE 'raw_%_loads'").strip()
    text = (
        f"{dates} published dates in {VERSIONS} versions each, of which readers see the newest; the newest date is "
        f"that of the loads above, the others one {SMALL}th of it; {int(rows):,} rows in all. Each query {TIMES} times "
        "through the view and on a bare table that holds the published rows only, in turn, over HTTP; the answers are "
        "the same. Parts: those that `EXPLAIN indexes = 1` says are read of the table of loads, and those it has."
    )
    return f"{text}\n\n{_table(found)}\n\n{LADDER}\n\n{_rungs(rungs)}"


def _table(found: list[Compared]) -> str:
    rows = [
        (
            f"{each.query.title}",
            each.query.kind,
            each.through_view.text(),
            each.bare.text(),
            f"{each.through_view.median / each.bare.median:.2f}",
            f"{each.through_view.median - each.bare.median:+.1f}",
            each.parts,
        )
        for each in found
    ]
    return table(("query", "kind", "view, ms", "bare, ms", "×", "ms more", "parts"), rows)
