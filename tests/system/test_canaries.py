"""No secret appears in any log, error, query text, page or file of good, bad and broken runs."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import shutil
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from urllib3.exceptions import HTTPError

from pipeline import exit_codes
from pipeline.errors import ConfigError
from pipeline.graph.context import Context
from pipeline.settings import load_settings
from tests.support.canaries import NOBODY, Canaries
from tests.support.clickhouse import ClickHouseError, OwnClickHouse, User
from tests.support.deployment import HASTE, Deployment, Result, ServerReader, a_day, in_bucket, selection
from tests.support.luigid import running_luigid
from tests.support.misbehaving import Misbehaving, refused
from tests.support.receiver import Receiver
from tests.support.s3 import REGION, Bucket
from tests.support.snapshots import SnapshotFiles

pytestmark = pytest.mark.usefixtures("audited")

DAY, BAD_DAY = a_day("2025-08-01"), a_day("2025-08-02")
CANARIES, WRONG = Canaries.made(), Canaries.made()


@pytest.mark.parametrize(
    "written",
    [
        str,
        repr,
        urllib.parse.quote,
        urllib.parse.quote_plus,
        html.escape,
        json.dumps,
        str.upper,
        lambda secret: secret[:14],
        lambda secret: secret[-14:],
        lambda secret: secret.encode().hex(),
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.b64encode(f"a{secret}b".encode()).decode(),
        lambda secret: base64.b64encode(f"ab{secret}c".encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(f"user:{secret}".encode()).decode(),
    ],
)  # fmt: skip
def test_a_secret_is_recognised_however_it_is_written(written: Callable[[str], str], tmp_path: Path) -> None:
    """In a text, in a file, in a file's name; nothing is found where there is none, and no finding shows it."""
    for kind, secret in vars(CANARIES).items():
        text = f"before {written(secret)} after"
        (found,) = CANARIES.found_in(text)
        assert found.startswith(kind)
        assert secret not in found
        assert WRONG.found_in(text) == []
        (tmp_path / "file").write_text(text)
        assert len(CANARIES.found_in(tmp_path)) == 1
    (tmp_path / CANARIES.s3_token.partition("'")[0]).touch()
    assert len(CANARIES.found_in(tmp_path)) == 2


def test_an_error_and_a_representation_show_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings and what is made of them look like, also when each of the variables is wrong."""
    variables = {"SOT_S3_BUCKET": "b", "CLICKHOUSE_HOST": "localhost", "SOT_PASSWORD": CANARIES.notify_password}
    for name, value in {**CANARIES.environment(), **variables}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    context = Context(settings)
    shown = [settings, settings.model_dump(), settings.model_dump_json(), vars(context), context.source]
    assert CANARIES.found_in(repr([*shown, vars(context.source), context.warehouse("torus")])) == []
    monkeypatch.setenv("NOTIFY_URLS", f"nowhere {CANARIES.notify_password}")
    monkeypatch.setenv("PING_URL", f"ftp://{CANARIES.ping_key}")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).count("\n") == 1
    assert CANARIES.found_in(f"{caught.value} {caught.value!r}") == []


# The runs

Command = tuple[list[str], dict[str, str]]  #: arguments of sot-ingest, changes of the environment


@dataclass
class Story:
    """What ran, and everything that was written meanwhile."""

    results: dict[str, Result] = field(default_factory=dict)
    written: dict[str, list[str | Path]] = field(default_factory=dict)  #: by place


@pytest.fixture(scope="module")
def story(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Let everything happen once."""
    directory = tmp_path_factory.mktemp("canaries")
    story = Story()
    bucket = filled_bucket(s3, directory / "source")
    server = OwnClickHouse(
        directory / "clickhouse", users={"canary": User(CANARIES.clickhouse_password)}, log_level="debug"
    )
    receiver = Receiver()
    with (
        running_luigid(directory / "luigid") as luigid,
        receiver.running(),
        Misbehaving(("127.0.0.1", urllib.parse.urlsplit(s3).port or 80)).running() as network,
        server,
        watched(server) as processes,
    ):
        secrets = CANARIES.environment(receiver.port)
        made = deployment(bucket, server, directory / "run", secrets)
        config = directory / "luigi.cfg"
        config.write_text(f"[core]\ndefault-scheduler-port = {luigid}\n")
        for name, (command, changes) in (good(config) | broken(network, config)).items():
            changed = replace(made, variables=made.variables | changes)
            story.results[name] = changed.command("sot-ingest", *command)
        if not server.running:
            server.start()
        story.written["luigid's page and API"] = list(told_by_luigid(luigid))
        story.written["the server's tables"] = [query_log(server), *tables(server)]
    story.written |= {
        "stdout and log": [text for result in story.results.values() for text in (result.stdout, result.stderr)],
        "work directory, metrics, report": [directory / "run"],
        "luigid's state and log": [directory / "luigid"],
        "the server's log": [server.log],
        "the server's processes": list(processes),
        "messages to people": [body for path, body in receiver.received if not path.startswith("/ping")],
    }
    return story


def filled_bucket(endpoint: str, directory: Path) -> Bucket:
    """Return a bucket with a good day and one with a damaged file."""
    shutil.copytree(Path(__file__).parents[1] / "samples", directory)
    SnapshotFiles(directory, BAD_DAY).corrupt("raw_features", 1_000)
    session = boto3.session.Session("owner", "owner's")
    client = session.client("s3", endpoint_url=endpoint, region_name=REGION)
    bucket = Bucket("canaries", endpoint, client)
    client.create_bucket(Bucket=bucket.name)
    bucket.upload(directory)
    return bucket


def deployment(bucket: Bucket, server: OwnClickHouse, directory: Path, secrets: Mapping[str, str]) -> Deployment:
    """Return a deployment whose every secret is a canary, and that writes all that it can write."""
    variables = {
        **HASTE,
        "LOG_LEVEL": "DEBUG",
        "HOME": str(directory.with_name("home")),
        "AWS_EC2_METADATA_DISABLED": "true",
        "INGESTION_NETWORKS": "torus",
        "CLICKHOUSE_USER": "canary",
        "NOTIFY_ON_SUCCESS": "true",
        "METRICS_PATH": str(directory / "metrics.prom"),
        "REPORT_PATH": str(directory / "report.html"),
    }
    reader = ServerReader(server, "", ("torus",))
    return Deployment(in_bucket(bucket.name, bucket.endpoint), reader, directory, {**variables, **secrets})


def good(config: Path) -> dict[str, Command]:
    """Return a day that is published, one that is refused, and the verbs that look at them; ``config`` is luigi's."""
    luigid = {"LUIGI_CONFIG_PATH": str(config)}
    return {
        "good": (["run", *selection(DAY), "--scheduler", "luigid"], luigid),
        "refused": (["run", *selection(BAD_DAY), "--scheduler", "luigid"], {**luigid, "LOG_FORMAT": "text"}),
        "doctor": (["doctor", "--settings"], {}),
        "status": (["status", "--date", "2025-08-02", "--days", "2"], {}),
        "history": (["history", "--days", "3000", "--json"], {}),
        "report": (["report", "--html", "-", "--days", "3000"], {}),
        "check": (["check", "--max-age", "26h"], {}),
        "gc": (["gc", "--yes", "--json"], {}),
        "unblock": (["unblock"], luigid),
    }


def broken(network: Misbehaving, config: Path) -> dict[str, Command]:
    """Return runs that S3 refuses, quoting the token; whose token cannot be sent; that nobody takes messages from;
    with wrong variables; with a wrong password, which ends the engine of the tests; and where nobody answers.
    """
    echo = f"</Message><Token-0>{html.escape(CANARIES.s3_token)}</Token-0><Message>{html.escape(CANARIES.s3_secret)}"
    network.plan("HEAD", refused(403, ""))
    network.plan("GET", *[refused(400, "ExpiredToken", echo)] * 3)
    refuses = {"SOT_S3_ENDPOINT": network.url}
    nobody = CANARIES.environment()
    services = f"{nobody['NOTIFY_URLS']}, nothing://{CANARIES.notify_password}"
    unheard = {"NOTIFY_URLS": services, "PING_URL": nobody["PING_URL"]}
    variables = {"NOTIFY_URLS": CANARIES.notify_password, "PING_URL": f"ftp://{CANARIES.ping_key}", "SOT_PATH": "/"}
    bad_run = ["run", *selection(BAD_DAY)]
    return {
        "s3_refuses": (
            ["rerun", *selection(DAY), "--yes", "--scheduler", "luigid"],
            {**refuses, "LUIGI_CONFIG_PATH": str(config)},
        ),
        "s3_refuses_verify": (
            ["verify", "--date", "2025-08-01", "--deep"],
            {**refuses, "LOG_FORMAT": "text"},
        ),
        "token_with_a_newline": (bad_run, {**unheard, "AWS_SESSION_TOKEN": f"\n{CANARIES.s3_token}"}),
        "wrong_variables": (["run"], variables),
        "wrong_password": (bad_run, {"CLICKHOUSE_PASSWORD": WRONG.clickhouse_password}),
        "down": (["doctor"], dict.fromkeys(("CLICKHOUSE_PORT", "CLICKHOUSE_HTTP_PORT"), str(NOBODY))),
    }


@contextmanager
def watched(server: OwnClickHouse) -> Iterator[set[str]]:
    """Ask again and again what the server is at work on."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            with contextlib.suppress(ClickHouseError, HTTPError):  # it is not up all the time
                seen.update(
                    server.http("SELECT * EXCEPT ProfileEvents FROM system.processes FORMAT JSONEachRow").splitlines()
                )

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield seen
    ended.set()
    thread.join()


def told_by_luigid(port: int) -> Iterator[str]:
    """Yield what luigid tells about its tasks, and the errors of those that failed."""

    def asked(path: str, **data: Any) -> str:
        url = f"http://127.0.0.1:{port}/{path}?data={urllib.parse.quote(json.dumps(data))}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    found = asked("api/task_list", status="", upstream_status="")
    yield found
    yield asked("metrics")
    for task in json.loads(found)["response"]:
        yield asked("api/fetch_error", task_id=task)
        yield asked("api/get_task_status_message", task_id=task)


def query_log(server: OwnClickHouse) -> str:
    """Return the server's own record of queries; the library keeps none."""
    server.http("SYSTEM FLUSH LOGS")
    if server.http("EXISTS system.query_log").strip() == "0":
        return ""
    return server.http("SELECT * FROM system.query_log FORMAT JSONEachRow")


def tables(server: OwnClickHouse) -> Iterator[str]:
    """Yield what the pipeline wrote about its work."""
    for name in ("sot_steps", "sot_claims", "sot_table_loads", "sot_publications"):
        yield server.http(f"SELECT * FROM torus.{name} FORMAT JSONEachRow")


PLACES = (
    *("stdout and log", "work directory, metrics, report", "messages to people"),
    *("luigid's page and API", "luigid's state and log"),
    *("the server's log", "the server's tables", "the server's processes"),
)


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_in(place: str, story: Story) -> None:
    """Of none of the runs, though they logged all that they can; and there is something there to look at."""
    assert sum(len(each) if isinstance(each, str) else 1 for each in story.written[place]) > 0
    for each in story.written[place]:
        assert [*CANARIES.found_in(each), *WRONG.found_in(each)] == []


def test_the_runs_were_good_bad_and_broken(story: Story) -> None:
    """So that there was something to leak by: each that failed did so for its own reason."""
    assert {name: result.exit_code for name, result in story.results.items() if result.exit_code} == {
        "refused": exit_codes.TASK_FAILED,
        "check": exit_codes.FINDINGS,  # the days are old
        "s3_refuses": exit_codes.UNKNOWN,
        "s3_refuses_verify": exit_codes.UNKNOWN,
        "token_with_a_newline": exit_codes.UNKNOWN,
        "wrong_variables": exit_codes.CONFIG,
        "wrong_password": exit_codes.UNKNOWN,
        "down": exit_codes.UNKNOWN,
    }
    said = {name: result.stderr for name, result in story.results.items()}
    assert "step=DownloadFile" in said["refused"]
    assert "ExpiredToken" in story.results["s3_refuses_verify"].stdout + said["s3_refuses_verify"]
    assert "Could not send the message to service 2" in said["token_with_a_newline"]
    assert "Could not ping" in said["token_with_a_newline"]
    assert '"level": "DEBUG"' in said["good"]
    assert set(PLACES) == set(story.written)
