"""pandas and clickhouse-connect's insert_df: the way of the system that the pipeline replaces.

Each file is fetched with boto3 and hashed, then read into a data frame, then inserted.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import clickhouse_connect
import pandas as pd
from botocore import UNSIGNED
from botocore.config import Config

from tests.bench.peers.job import Job, given


def download(job: Job) -> None:
    """Fetch every file and compare its digest with the one that the manifest lists."""
    for table, url in job.urls.items():
        parts, path = urlsplit(url), Path(job.files[table])
        bucket, key = parts.path.lstrip("/").split("/", 1)
        config = Config(signature_version=UNSIGNED)
        endpoint = f"{parts.scheme}://{parts.netloc}"
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
        with job.timed("download"):
            client.download_file(bucket, key, str(path))
        with job.timed("checksum"), path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != job.sha256[table]:
                raise SystemExit(f"{path}: another digest than the manifest's")


def main() -> None:
    """Download, read and insert every file."""
    job = given()
    download(job)
    client = clickhouse_connect.get_client(
        host=job.host, port=job.http_port, username=job.user, password=job.password, database=job.database
    )
    for table, path in job.files.items():
        with job.timed("load"):
            frame = pd.read_parquet(path, columns=job.columns[table])
            client.insert_df(table, frame)
    job.answer()


if __name__ == "__main__":
    main()
