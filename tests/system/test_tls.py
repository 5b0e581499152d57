"""CLICKHOUSE_SECURE: both ports over TLS, the server's certificate verified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.clickhouse import ClickHouseServer
from tests.support.deployment import Deployment, ServerReader, a_day, in_directory
from tests.support.tls import terminated


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Issues the server's certificate; its own lies in ``ca.pem``."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


@pytest.fixture
def deployment(
    authority: trustme.CA, clickhouse: ClickHouseServer, database_prefix: str, samples: Path, tmp_path: Path
) -> Iterator[Deployment]:
    """The samples, and the server behind TLS on both ports."""
    with (
        terminated(authority, clickhouse.host, clickhouse.port) as port,
        terminated(authority, clickhouse.host, clickhouse.http_port) as http_port,
    ):
        variables = {
            "CLICKHOUSE_HOST": "localhost",
            "CLICKHOUSE_PORT": str(port),
            "CLICKHOUSE_HTTP_PORT": str(http_port),
            "CLICKHOUSE_SECURE": "true",
        }
        reader = ServerReader(clickhouse, database_prefix)
        yield Deployment(in_directory(samples), reader, tmp_path / "run", variables)


def test_statements_and_files_go_over_tls(deployment: Deployment, tmp_path: Path) -> None:
    """With the authority in SSL_CERT_FILE a snapshot is ingested; neither port speaks anything but TLS."""
    deployment.variables["SSL_CERT_FILE"] = str(tmp_path / "ca.pem")
    result = deployment.run(a_day())
    assert result.exit_code == 0, result.stderr
    assert len(deployment.rows("raw_features", a_day())) == 715


def test_a_certificate_of_an_unknown_authority_is_refused(deployment: Deployment) -> None:
    """Nothing is sent; the error says that it is the certificate, and trying again is not tried."""
    result = deployment.run(a_day())
    assert result.exit_code == 35
    (error, *_) = result.errors()
    assert "TLS failed" in error["message"]
    assert "SSL_CERT_FILE" in error["hint"]
