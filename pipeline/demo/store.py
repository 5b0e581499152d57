"""Puts demo snapshots of the last days into the bucket that the settings name, to try the pipeline with.

    python -m pipeline.demo.store --days 2

Makes the bucket if it is not there. A day whose manifest is there is left as it is.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import click
from botocore.config import Config

from pipeline.dates import last_days, yesterday
from pipeline.demo.bucket import MARKER, write_bucket
from pipeline.settings import Settings, get_settings
from pipeline.snapshot import MANIFEST_NAME, Snapshot

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def fill(chosen: Settings, days: int) -> list[Snapshot]:
    """Write what is missing of the last days of every network; return the snapshots that were written."""
    bucket, client = chosen.s3_bucket or "", _client(chosen)
    if bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    written = []
    for day in last_days(days, yesterday()):
        for network in chosen.networks:
            snapshot = Snapshot(network, day, chosen.window_days)
            if not client.list_objects_v2(Bucket=bucket, Prefix=_key(chosen, snapshot.manifest_key)).get("KeyCount"):
                _upload(chosen, client, snapshot)
                written.append(snapshot)
    return written


def _client(chosen: Settings) -> S3Client:
    config = Config(request_checksum_calculation="when_required")  # S3-compatible stores refuse what they do not know
    return boto3.session.Session().client(
        "s3", endpoint_url=chosen.s3_endpoint, region_name=chosen.s3_region, config=config
    )


def _key(chosen: Settings, key: str) -> str:
    return f"{chosen.s3_prefix.strip('/')}/{key}".removeprefix("/")


def _upload(chosen: Settings, client: S3Client, snapshot: Snapshot) -> None:
    """Write a snapshot and send its files, the manifest last: it says that the others are there."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_bucket(root, [snapshot.network], [snapshot.processing_date], snapshot.window_days)
        files = [path for path in root.rglob("*") if path.is_file() and path.name != MARKER]
        for path in sorted(files, key=lambda path: path.name == MANIFEST_NAME):
            key = _key(chosen, path.relative_to(root).as_posix())
            client.put_object(Bucket=chosen.s3_bucket or "", Key=key, Body=path.read_bytes())


@click.command()
@click.option("--days", type=click.IntRange(1, 30), default=2, show_default=True, help="Days back from yesterday.")
def main(days: int) -> None:
    """Put demo snapshots into the bucket that SOT_S3_BUCKET names."""
    chosen = get_settings()
    if not chosen.s3_bucket:
        raise click.UsageError("SOT_S3_BUCKET is not set")
    for snapshot in fill(chosen, days):
        click.echo(snapshot)


if __name__ == "__main__":
    main()
