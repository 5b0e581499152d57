"""The files from the bucket to the disk, one after the other, each synced: the least that a download costs."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.peers.job import given

PIECE = 1 << 20


def copy(url: str, path: Path) -> None:
    """Write what is at a URL to a file."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("GET", parts.path)
    answer, buffer = connection.getresponse(), memoryview(bytearray(PIECE))
    with path.open("wb") as file:
        while count := answer.readinto(buffer):
            file.write(buffer[:count])
        file.flush()
        os.fsync(file.fileno())
    connection.close()


def main() -> None:
    """Copy every file."""
    job = given()
    with job.timed("download"):
        for table, url in job.urls.items():
            copy(url, Path(job.files[table]))
    job.answer()


if __name__ == "__main__":
    main()
