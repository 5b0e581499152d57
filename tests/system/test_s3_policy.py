"""docker/s3-policy.json is enough, and nothing in it is too much: an S3 API that enforces policies says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.core.authorization import disable_iam_authentication, enable_iam_authentication
from mypy_boto3_s3 import S3Client

from pipeline import exit_codes
from pipeline.errors import SourceError
from pipeline.sources import Source
from pipeline.sources.s3 import S3Source
from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, ServerReader, a_day, in_bucket, selection
from tests.support.s3 import REGION

POLICY: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docker" / "s3-policy.json").read_text("utf-8"))
BUCKET, READER = "snapshots", "reader"  # as the policy names it
SAMPLES = Path(__file__).parents[1] / "samples"
DAY = a_day("2025-08-01")


@dataclass(frozen=True)
class Store:
    """A bucket, and a user of it whose rights are a policy."""

    endpoint: str
    iam: Any  #: the owner's client
    client: S3Client  #: the user's own
    credentials: dict[str, str]

    def allow(self, *statements: dict[str, Any]) -> None:
        """Give the user these rights and no others."""
        document = json.dumps({**POLICY, "Statement": statements})
        with disable_iam_authentication():
            self.iam.put_user_policy(UserName=READER, PolicyName="least", PolicyDocument=document)


@pytest.fixture(scope="module")
def store(s3: str) -> Iterator[Store]:
    """Fill the bucket, then enforce the policy."""
    owner = boto3.session.Session("owner", "owner's", region_name=REGION)
    iam, client = owner.client("iam", endpoint_url=s3), owner.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket=BUCKET)
    for path in SAMPLES.rglob("*"):
        if path.is_file() and DAY.network in str(path):
            client.put_object(Bucket=BUCKET, Key=path.relative_to(SAMPLES).as_posix(), Body=path.read_bytes())
    client.put_object(Bucket=BUCKET, Key="elsewhere/secret", Body=b"not ours")
    iam.create_user(UserName=READER)
    key = iam.create_access_key(UserName=READER)["AccessKey"]
    user = boto3.session.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=REGION)
    credentials = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    with enable_iam_authentication():
        yield Store(s3, iam, user.client("s3", endpoint_url=s3), credentials)


def refused(call: Any, **arguments: str | bytes) -> str:
    """Return the code that a call with the user's credentials is refused with; "" when it is not."""
    try:
        call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_the_policy_is_enough(store: Store, clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path) -> None:
    """Every verb that asks the source works: a day is ingested, planned, verified, examined, and another is missing."""
    store.allow(*POLICY["Statement"])
    reader = ServerReader(clickhouse, database_prefix, ("torus",))
    deployment = Deployment(
        in_bucket(BUCKET, store.endpoint),
        reader,
        tmp_path / "run",
        {"INGESTION_NETWORKS": "torus", **store.credentials},
    )
    ended = [
        deployment.run(DAY),
        deployment.command("sot-ingest", "plan", *selection(a_day("2025-08-02"))),
        deployment.command("sot-ingest", "verify", "--date", "2025-08-01", "--deep"),
        deployment.run(a_day("2025-08-03")),
        deployment.command("sot-ingest", "doctor", "--json"),
    ]
    assert [result.exit_code for result in ended] == [0, 0, 0, exit_codes.MISSING, 0]
    assert "s3:ListBucket" not in ended[-1].stdout  # as it says when it may not list


def test_the_policy_lets_nothing_be_written(store: Store) -> None:
    """With the same credentials: no write, no deletion, and no look at what is elsewhere in the bucket."""
    store.allow(*POLICY["Statement"])
    key = DAY.manifest_key
    assert refused(store.client.get_object, Key=key) == ""
    assert refused(store.client.put_object, Key=key, Body=b"{}") == "AccessDenied"
    assert refused(store.client.delete_object, Key=key) == "AccessDenied"
    assert refused(store.client.create_multipart_upload, Key=key) == "AccessDenied"
    assert refused(store.client.get_object, Key="elsewhere/secret") == "AccessDenied"


def test_each_right_is_needed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without reading the snapshots, the labels, or the list of the bucket, just that is refused."""
    for name, value in store.credentials.items():
        monkeypatch.setenv(name, value)
    read, listing = POLICY["Statement"]
    snapshots, labels = read["Resource"]
    rights = {
        "snapshots": {**read, "Sid": "ReadSnapshots", "Resource": snapshots},
        "labels": {**read, "Sid": "ReadLabels", "Resource": labels},
        "listing": listing,
    }
    for left_out in rights:
        store.allow(*(right for name, right in rights.items() if name != left_out))
        source = S3Source(BUCKET, endpoint=store.endpoint, region=REGION)
        assert what_is_refused(source) == [left_out]


def what_is_refused(source: Source) -> list[str]:
    """Return which of the three things that the pipeline asks for the source refuses."""
    calls: dict[str, Callable[[], object]] = {
        "snapshots": lambda: source.read_manifest(DAY),
        "labels": lambda: source.find(DAY.shared_labels_key),
        "listing": lambda: list(source.manifests(DAY.network)),
    }
    found = []
    for name, call in calls.items():
        try:
            call()
        except SourceError:
            found.append(name)
    return found
