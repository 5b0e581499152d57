"""The parts that only whole runs need: an S3 API, and the ground for harm."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.support.deployment import Deployment
from tests.support.packaged_audits import switched_off
from tests.support.s3 import REGION, Bucket
from tests.torture.site import Ground, ground


@pytest.fixture(scope="session", autouse=True)
def without_audits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Switch off the packaged audits, which take a fifth of a run's CPU; ``audited`` leaves them on."""
    with pytest.MonkeyPatch.context() as patch:
        variables = switched_off(tmp_path_factory.mktemp("audits"))
        patch.setattr(Deployment, "defaults", variables)
        yield variables


@pytest.fixture(scope="module")
def audited() -> Iterator[None]:
    """Leave the packaged audits on for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deployment, "defaults", {})
        yield


@pytest.fixture(scope="module")
def torture_ground(without_audits: dict[str, str]) -> Iterator[Ground]:
    """A server and an S3 API for harm. Readers look, runs fork, and audits ask, less than in ``scripts/torture``."""
    with ground(pause=3, workers=1) as made:
        made.variables |= without_audits
        yield made


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an S3 API."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket of this test's own; the environment holds credentials for it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # A session of its own: boto3's default one would keep the first test's credentials.
    client = boto3.session.Session().client("s3", endpoint_url=s3, region_name=REGION)
    name = f"test-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name)
    return Bucket(name, s3, client)
