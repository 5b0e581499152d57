"""What readers must see, and what they see: computed by DuckDB and by SQL of our own, by no code of the pipeline."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import urllib3

from tests.support.clickhouse import ClickHouseError, ClickHouseServer

_CONTRACT = Path(__file__).parents[1] / "columns.csv"
_HTTP = urllib3.PoolManager(maxsize=8, retries=False, timeout=60)

Seen = tuple[tuple[int, int], ...]  #: of each table: rows, and a hash over some columns of all of them

NOTHING = (0, 0)


def columns_of() -> dict[str, dict[str, str]]:
    """Return the columns that readers know with their ClickHouse types, in order, by table; not created_at."""
    tables: dict[str, dict[str, str]] = {}
    with _CONTRACT.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            if line["column"] != "created_at":
                tables.setdefault(line["table"], {})[line["column"]] = line["clickhouse_type"]
    return tables


COLUMNS = columns_of()
HASHED = 8  #: columns of each table that a look takes in, the key and a few more: it is to cost little
EMPTY: Seen = (NOTHING,) * len(COLUMNS)


@dataclass(frozen=True)
class Key:
    """A snapshot's key."""

    network: str
    day: date
    window_days: int = 195

    @property
    def where(self) -> str:
        """The same as a condition."""
        return f"processing_date = '{self.day}' AND window_days = {self.window_days}"


def ask(server: ClickHouseServer, query: str) -> bytes:
    """Return what a server answers. Raises ClickHouseError when it refuses, urllib3's errors when it is gone."""
    headers = {"X-ClickHouse-User": server.user, "X-ClickHouse-Key": server.password}
    answer = _HTTP.request("POST", f"http://{server.host}:{server.http_port}/", body=query.encode(), headers=headers)
    if answer.status != 200 or "X-ClickHouse-Exception-Code" in answer.headers:
        raise ClickHouseError(answer.data.decode("utf-8", "replace"))
    return answer.data


def seen(server: ClickHouseServer, database: str, key: Key) -> Seen:
    """Return what one query sees of a snapshot in all four views. Raises ClickHouseError while there are none."""
    parts = [
        f"SELECT '{table}' AS name, count() AS c, sum(cityHash64({', '.join(list(columns)[:HASHED])})) AS h "
        f"FROM {database}.{table} WHERE {key.where}"
        for table, columns in COLUMNS.items()
    ]
    answer = ask(server, f"SELECT c, h FROM ({' UNION ALL '.join(parts)}) ORDER BY name FORMAT TSV").decode()
    return tuple((int(count), int(hashed)) for count, hashed in (line.split() for line in answer.splitlines()))


def differences(server: ClickHouseServer, database: str, key: Key, bucket: Path) -> list[str]:
    """Compare every cell of every row that readers see with the files in a bucket's directory, as multisets."""
    found = []
    with duckdb.connect() as duck, tempfile.NamedTemporaryFile(suffix=".parquet") as answer:
        for table, columns in COLUMNS.items():
            path = _file(bucket, key, table)
            text = (
                f"SELECT {', '.join(columns)} FROM {database}.{table} WHERE {key.where} FORMAT Parquet "
                "SETTINGS output_format_parquet_string_as_string = 1, output_format_parquet_date_as_uint16 = 0"
            )
            answer.seek(0)
            answer.truncate()
            answer.write(ask(server, text))
            answer.flush()
            readers = _typed(answer.name, columns, {})
            files = _typed(str(path), columns, _constants(duck, path, columns, key)) if _has_rows(duck, path) else None
            found += _compare(duck, table, readers, files)
    return found


def _compare(duck: duckdb.DuckDBPyConnection, table: str, readers: str, files: str | None) -> list[str]:
    if files is None:
        count = _number(duck, f"SELECT count(*) FROM ({readers})")
        return [f"{table}: readers see {count} rows of a file without any"] if count else []
    more = _number(duck, f"SELECT count(*) FROM ({readers} EXCEPT ALL {files})")
    less = _number(duck, f"SELECT count(*) FROM ({files} EXCEPT ALL {readers})")
    if not more and not less:
        return []
    return [f"{table}: readers see {more} rows that are not in the file, and do not see {less} that are"]


def _number(duck: duckdb.DuckDBPyConnection, query: str) -> int:
    row = duck.execute(query).fetchone()
    return int(row[0]) if row else 0


def _file(bucket: Path, key: Key, table: str) -> Path:
    """Return a table's file by upstream's layout: named in the manifest, labels one level up for all dates."""
    folder = bucket / "snapshots" / key.network / str(key.day) / str(key.window_days)
    manifest = json.loads((folder / "META.json").read_bytes())
    stem = table.removeprefix("raw_")
    listed = manifest.get("sha256") or {entry["filename"]: "" for entry in manifest["files"]}
    (name,) = {name for name in listed if name.removesuffix(".parquet") in {stem, table}}
    inside = folder / name
    return inside if inside.exists() else bucket / "address-labels" / f"{key.network}_address_labels.parquet"


def _has_rows(duck: duckdb.DuckDBPyConnection, path: Path) -> bool:
    try:
        return bool(_number(duck, f"SELECT num_rows FROM parquet_file_metadata('{path}')"))
    except duckdb.InvalidInputException as error:
        if "at least one non-root column" in str(error):  # upstream's export of an empty table
            return False
        raise


def _constants(duck: duckdb.DuckDBPyConnection, path: Path, columns: dict[str, str], key: Key) -> dict[str, str]:
    """Return the snapshot's own values for the columns that a file does not have."""
    there = {row[0] for row in duck.execute(f"SELECT name FROM parquet_schema('{path}')").fetchall()}
    own = {"processing_date": f"DATE '{key.day}'", "window_days": str(key.window_days), "network": f"'{key.network}'"}
    return {name: own[name] for name in columns if name not in there}


def _typed(path: str, columns: dict[str, str], constants: dict[str, str]) -> str:
    """Return a query for a Parquet file's rows in the types that readers know."""
    values = [
        f"CAST({constants.get(name, f'{chr(34)}{name}{chr(34)}')} AS {_type(type_)})" for name, type_ in columns.items()
    ]
    return f"SELECT {', '.join(values)} FROM read_parquet('{path}')"


def _type(clickhouse: str) -> str:
    """Return DuckDB's name of a ClickHouse type."""
    if clickhouse.startswith("Array("):
        return _type(clickhouse[6:-1]) + "[]"
    if clickhouse.startswith("LowCardinality("):
        return _type(clickhouse[15:-1])
    if clickhouse.startswith("Decimal"):
        return clickhouse
    return {
        "String": "VARCHAR",
        "Bool": "BOOLEAN",
        "Date": "DATE",
        "Float32": "FLOAT",
        "Float64": "DOUBLE",
        "Int8": "TINYINT",
        "Int16": "SMALLINT",
        "Int32": "INTEGER",
        "Int64": "BIGINT",
        "UInt8": "UTINYINT",
        "UInt16": "USMALLINT",
        "UInt32": "UINTEGER",
        "UInt64": "UBIGINT",
    }[clickhouse]
