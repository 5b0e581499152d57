"""clickhouse-connect's insert_file, one file after the other: the file's bytes as the body of an INSERT."""

from __future__ import annotations

import clickhouse_connect
from clickhouse_connect.driver.tools import insert_file

from tests.bench.peers.job import given


def main() -> None:
    """Insert every file."""
    job = given()
    client = clickhouse_connect.get_client(
        host=job.host, port=job.http_port, username=job.user, password=job.password, database=job.database
    )
    with job.timed("load"):
        for table, path in job.files.items():
            insert_file(client, table, path, fmt="Parquet", column_names=job.columns[table])
    job.answer()


if __name__ == "__main__":
    main()
