"""Statements for the server, all at once: it does the work, and this program waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import urllib3

from tests.bench.peers.job import Job, given


def send(job: Job, statement: str) -> None:
    """Run one statement. Raises SystemExit when the server refuses it."""
    headers = {"X-ClickHouse-User": job.user, "X-ClickHouse-Key": job.password}
    url = f"http://{job.host}:{job.http_port}/?wait_end_of_query=1"
    answer = urllib3.request("POST", url, body=statement.encode(), headers=headers, timeout=3_600, retries=False)
    if answer.status != 200:
        raise SystemExit(answer.data.decode("utf-8", "replace"))


def main() -> None:
    """Run all statements and wait for the last."""
    job = given()
    with job.timed("load"), ThreadPoolExecutor(len(job.statements)) as pool:
        list(pool.map(lambda statement: send(job, statement), job.statements))
    job.answer()


if __name__ == "__main__":
    main()
