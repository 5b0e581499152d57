"""A bucket behind a real S3 API over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mypy_boto3_s3 import S3Client

REGION = "us-east-1"


@dataclass(frozen=True)
class Bucket:
    """A bucket that answers over HTTP, and a client that may do everything with it."""

    name: str
    endpoint: str  #: URL
    client: S3Client

    def upload(self, directory: Path) -> None:
        """Store every file under ``directory``; its path in there, with slashes, is the key."""
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                key = path.relative_to(directory).as_posix()
                self.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())
