"""``sot-ingest serve``: what is published, over HTTP, for people, downstream jobs and Prometheus."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.dates import yesterday
from pipeline.runs.metrics import METRICS, SERVED
from tests.conftest import own_databases
from tests.support.clickhouse import ClickHouseServer, OwnClickHouse, User
from tests.support.deployment import HASTE, Deployment, ServerReader, in_directory
from tests.support.html_page import Page
from tests.support.service import RunningService, serving
from tests.support.snapshots import Bucket

DAY = yesterday()
BEFORE = DAY - timedelta(days=1)
DAYS = f"from={BEFORE}&to={DAY}"


def deployed(reader: ServerReader, directory: Path, **variables: str) -> tuple[Deployment, Bucket]:
    """Return a deployment of torus and bitcoin, and its source."""
    bucket = Bucket(directory / "bucket")
    networks = {"INGESTION_NETWORKS": "torus,bitcoin", **variables}
    return Deployment(in_directory(bucket.root), reader, directory / "run", networks), bucket


@pytest.fixture(scope="module")
def service(clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service of a day that is published and one that failed."""
    with own_databases(clickhouse) as prefix:
        deployment, bucket = deployed(ServerReader(clickhouse, prefix), tmp_path_factory.mktemp("service"))
        bad = bucket.snapshot("torus", BEFORE)
        bad.corrupt("raw_alerts", 100)
        assert deployment.run(bucket.snapshot("torus", DAY).snapshot).exit_code == 0
        assert deployment.run(bad.snapshot).exit_code == 30
        with serving(deployment) as running:
            yield running


def test_a_day_is_told_as_status_tells_it(service: RunningService) -> None:
    """Published, half done, or missing; the publication has all that there is to say of what readers see."""
    found = service.json(f"/snapshots/torus/{DAY}")
    assert (found["network"], found["processing_date"], found["state"]) == ("torus", str(DAY), "published")
    assert found["rows"]["raw_alerts"] > 0
    assert service.json(f"/snapshots/torus/{BEFORE}")["state"] == "half done"
    assert service.json(f"/snapshots/bitcoin/{DAY}")["state"] == "missing"
    publication = service.json(f"/publications/{found['publication_id']}")
    assert (publication["network"], publication["is_newest"]) == ("torus", True)
    assert publication["rows"] == found["rows"]
    assert publication["load_ids"].keys() == found["rows"].keys()


def test_days_are_told_together(service: RunningService) -> None:
    """The newest first; of some networks, in some states."""
    found = service.json(f"/snapshots?{DAYS}")["snapshots"]
    days = [(each["processing_date"], each["network"]) for each in found]
    assert days == [(str(day), network) for day in (DAY, BEFORE) for network in ("torus", "bitcoin")]
    found = service.json(f"/snapshots?{DAYS}&network=torus&state=published&state=missing")["snapshots"]
    assert [each["processing_date"] for each in found] == [str(DAY)]


def test_freshness_is_what_check_says(service: RunningService) -> None:
    """Of each network, and of all."""
    found = service.json("/freshness?max_age_hours=48")
    assert found["fresh"] is False
    assert [(each["network"], each["state"]) for each in found["networks"]] == [
        ("torus", "fresh"),
        ("bitcoin", "nothing"),
    ]
    assert service.json("/freshness?network=torus&max_age_hours=48")["fresh"] is True


def test_runs_are_told_with_why_they_failed(service: RunningService) -> None:
    """The newest first, at most as many as were asked for."""
    found = service.json(f"/runs?{DAYS}")
    assert [(run["processing_date"], run["outcome"]) for run in found["runs"]] == [
        (str(BEFORE), "failed"),
        (str(DAY), "published"),
    ]
    assert "the manifest says" in found["runs"][0]["error"]
    assert found["running"] == []
    assert len(service.json(f"/runs?{DAYS}&limit=1")["runs"]) == 1


def test_prometheus_can_read_the_metrics(service: RunningService) -> None:
    """Those of the files that the warehouse can tell, and more."""
    answer = service.get("/metrics")
    assert answer.status == 200
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.data.decode())
        for sample in family.samples
    }
    names = {name for name, *_ in found}
    assert names == {*SERVED, *(name for name in METRICS if not name.startswith("sot_ingest_last_"))}
    assert found["sot_ingest_warehouse_up", "bitcoin"] == 1
    assert found["sot_ingest_newest_rows", "torus", "raw_alerts"] > 0
    assert found["sot_ingest_table_bytes", "torus", "raw_alerts_loads"] > 0


def test_the_report_is_live(service: RunningService) -> None:
    """The same page as the command's; of some networks where they are named."""
    answer = service.get("/?days=2", accept_encoding="gzip")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page(answer.data.decode())
    assert {f"network-{name}" for name in ("torus", "bitcoin")} <= {e.attributes.get("id") for e in page.root.all()}
    assert "the manifest says" in page.root.text
    assert "network-bitcoin" not in service.get("/?days=2&network=torus").data.decode()


def test_an_answer_that_a_client_has_is_not_sent_again(service: RunningService) -> None:
    """Of every question whose answer does not change by itself."""
    for path in (f"/snapshots/torus/{DAY}", f"/snapshots?{DAYS}", f"/runs?{DAYS}", "/?days=2"):
        etag = service.get(path).headers["etag"]
        again = service.get(path, if_none_match=f'"other", {etag}')
        assert (again.status, again.data, again.headers["etag"]) == (304, b"", etag)
        assert service.get(path, if_none_match='"other"').status == 200


def test_waiting_ends_when_a_day_is_published(
    clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """A client that names the answer that it has is told of any change; without a change it is told so in the end."""
    deployment, bucket = deployed(ServerReader(clickhouse, database_prefix), tmp_path)
    path = f"/snapshots/torus/{DAY}"
    with serving(deployment) as service, ThreadPoolExecutor() as pool:
        etag = service.get(path).headers["etag"]
        assert service.get(f"{path}?wait=1", if_none_match=etag).status == 304
        assert service.json(f"{path}?wait=1")["state"] == "missing"
        waiting = pool.submit(service.json, f"{path}?wait=60")
        changed = pool.submit(service.get, f"/snapshots?{DAYS}&wait=60", if_none_match='"none"')
        assert changed.result().status == 200
        assert deployment.run(bucket.snapshot("torus", DAY).snapshot).exit_code == 0
        assert waiting.result()["state"] == "published"
        assert service.get(f"{path}?wait=60", if_none_match=etag).status == 200


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        (f"/snapshots/toruss/{DAY}", 404, "not_found", "did you mean torus?"),
        ("/snapshots/torus/2025-13-01", 400, "bad_request", "day: "),
        ("/snapshots/torus/2999-01-01", 400, "bad_request", "in the future"),
        (f"/snapshots/torus/{DAY}?wait=3600", 400, "bad_request", "wait: "),
        ("/snapshots?from=2020-01-01", 400, "bad_request", "1 to 400 days"),
        ("/snapshots?from=2025-01-02&to=2025-01-01", 400, "bad_request", "1 to 400 days"),
        ("/snapshots?state=lost", 400, "bad_request", "state: "),
        ("/snapshots?network=torus&network=x'%00", 404, "not_found", "is not a configured network"),
        ("/publications/0198a0b0-0000-7000-8000-000000000000", 404, "not_found", "No network has a publication"),
        ("/publications/1", 400, "bad_request", "publication_id: "),
        ("/runs?limit=100000", 400, "bad_request", "limit: "),
        ("/nothing", 404, "not_found", "GET /nothing"),
        ("/docs", 404, "not_found", "GET /docs"),
    ],
)
def test_what_is_wrong_is_said(service: RunningService, path: str, status: int, code: str, said: str) -> None:
    """As JSON, with what to do."""
    error = service.json(path, status)["error"]
    assert error["code"] == code
    assert said in error["message"]
    assert error["hint"]


def test_the_description_is_that_of_the_answers(service: RunningService) -> None:
    """OpenAPI names every path, what it answers, and the form of errors."""
    found = service.json("/openapi.json")
    assert set(found["paths"]) == {
        *("/", "/snapshots", "/snapshots/{network}/{day}", "/publications/{publication_id}"),
        *("/freshness", "/runs", "/metrics", "/healthz"),
    }
    for path, methods in found["paths"].items():
        assert set(methods) == {"get"}
        assert set(methods["get"]["responses"]) == {"200", "default"}, path
    day = found["components"]["schemas"]["SnapshotAnswer"]["properties"]
    assert set(day) == set(service.json(f"/snapshots/torus/{DAY}"))
    assert service.json("/healthz")["status"] == "ok"


def test_nothing_is_written(service: RunningService) -> None:
    """No other method is known."""
    for method in ("POST", "PUT", "DELETE"):
        answer = service.http.request(method, f"{service.url}/snapshots/torus/{DAY}")
        assert (answer.status, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_the_token_is_asked_for_and_never_shown(
    clickhouse: ClickHouseServer, database_prefix: str, tmp_path: Path
) -> None:
    """From a file, on every path but that of the health check; the service ends in order at TERM."""
    token = tmp_path / "token"
    token.write_text("a-token-of-thirty-two-characters\n")
    deployment, _ = deployed(ServerReader(clickhouse, database_prefix), tmp_path, API_TOKEN_FILE=str(token))
    with serving(deployment, "--host", "0.0.0.0") as service:  # noqa: S104  # what is tested
        service.url = service.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert service.get("/healthz").status == 200
        for path in ("/", "/metrics", "/openapi.json", f"/snapshots/torus/{DAY}"):
            refused = service.get(path)
            assert (refused.status, refused.headers["www-authenticate"][:5]) == (401, "Basic")
            assert service.get(path, authorization="Bearer another-token-of-as-many-letters").status == 401
            assert service.get(path, authorization=f"Bearer {token.read_text().strip()}").status == 200
    assert service.exit_code == 0
    assert [json.loads(line)["message"] for line in service.log] == [
        *("Service started", "Service is ending: SIGTERM", "Service ended")
    ]
    assert token.read_text().strip() not in "".join(service.log)
    assert "characters" in refused_start(deployment, API_TOKEN_FILE="", API_TOKEN="short")
    assert "API_TOKEN is not set" in refused_start(deployment, "--host", "0.0.0.0", API_TOKEN_FILE="")  # noqa: S104
    assert "embedded ClickHouse" in refused_start(
        deployment, CLICKHOUSE_HOST="", WAREHOUSE_PATH=str(tmp_path / "warehouse"), API_TOKEN_FILE=""
    )


def refused_start(deployment: Deployment, *options: str, **variables: str) -> str:
    """Return why the service does not start."""
    other = Deployment(deployment.source, deployment.reader, deployment.directory, deployment.variables | variables)
    ended = other.command("sot-ingest", "serve", "--port", "0", *options)
    assert ended.exit_code == 2
    return ended.log()[-1]["message"]  # type: ignore[no-any-return]


def test_a_dead_warehouse_is_told_at_once(own_clickhouse: Callable[..., OwnClickHouse], tmp_path: Path) -> None:
    """503, and when to ask again; metrics keep what they knew. It answers again when the warehouse does.

    All that with the grants of the service's role.
    """
    granted = [grant for network in ("torus", "bitcoin") for grant in grants_to("sot_reader", network)]
    server = own_clickhouse(users={"reader": User("the reader's", tuple(granted))})
    deployment, bucket = deployed(ServerReader(server, ""), tmp_path, **HASTE)
    assert deployment.run(bucket.snapshot("torus", DAY).snapshot).exit_code == 0
    deployment.variables |= {"CLICKHOUSE_USER": "reader", "CLICKHOUSE_PASSWORD": "the reader's"}
    with serving(deployment) as service:
        assert service.get("/").status == 200
        assert service.json(f"/runs?{DAYS}")["runs"]
        assert any("disk_free_bytes" in line for line in metrics(service))
        assert server.http("SELECT sum(value) FROM system.errors WHERE name = 'ACCESS_DENIED'") == "0\n"
        newest = [line for line in metrics(service) if "newest_rows" in line]
        assert newest
        server.kill()
        deadline = time.monotonic() + 60
        while (answer := service.get(f"/snapshots/torus/{DAY}")).status == 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "unavailable"
        started = time.monotonic()
        assert service.get(f"/snapshots/torus/{DAY}?wait=60").status == 503
        assert time.monotonic() - started < 5
        page = service.get("/?days=3")  # not one of those that it has
        assert (page.status, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert service.json("/freshness", 503)["error"]["hint"]
        shown = metrics(service)
        assert 'sot_ingest_warehouse_up{network="torus"} 0.0' in shown
        assert [line for line in shown if "newest_rows" in line] == newest
        assert service.json("/healthz")["status"] == "ok"
        server.start()
        deadline = time.monotonic() + 60
        while service.get(f"/snapshots/torus/{DAY}").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def grants_to(role: str, network: str) -> list[str]:
    """Return what docker/grants.sql grants to a role, for a network's database, as a server's users are given it."""
    text = (Path(__file__).parents[2] / "docker" / "grants.sql").read_text("utf-8")
    found = re.findall(rf"^(GRANT .*) TO {role};", text, re.MULTILINE)
    return [re.sub(r"\btorus\b", network, grant) for grant in found]


def metrics(service: RunningService) -> list[str]:
    """Return the lines of the metrics."""
    return service.get("/metrics").data.decode().splitlines()


@pytest.mark.slow
def test_many_clients_wait_and_the_warehouse_hardly_notices(
    own_clickhouse: Callable[..., OwnClickHouse], tmp_path: Path
) -> None:
    """200 clients on one service: each gets its answer, and all together are a question every two seconds."""
    server = own_clickhouse(log_level="debug")
    deployment, bucket = deployed(ServerReader(server, ""), tmp_path)
    files = bucket.snapshot("torus", DAY)
    path = f"/snapshots/torus/{DAY}?wait=120"
    with serving(deployment) as service, ThreadPoolExecutor(200) as pool:
        before, started = len(server.queries("ingest")), time.monotonic()
        waiting = [pool.submit(service.json, path) for _ in range(200)]
        time.sleep(10)
        asked = len(server.queries("ingest")) - before
        assert 0 < asked <= 3 * ((time.monotonic() - started) / 2 + 2)
        assert deployment.run(files.snapshot).exit_code == 0
        assert {each.result()["state"] for each in waiting} == {"published"}
        at_once = list(pool.map(lambda _: service.get("/?days=30").status, range(200)))
        assert at_once == [200] * 200
        waiting = [pool.submit(service.get, f"{path}&window_days=7") for _ in range(200)]
        time.sleep(3)
        started = time.monotonic()
        os.kill(service.pid, signal.SIGTERM)
        assert {each.result().status for each in waiting} == {200}
        assert time.monotonic() - started < 10
