"""The configuration: every mistake at once, by the name of its variable, and no secret in what is said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dateutil.relativedelta import relativedelta

from pipeline.dates import future_day
from pipeline.errors import ConfigError
from pipeline.settings import ServerAddress, Settings, ignored_variables, load_settings, secret_variables
from pipeline.tables import TABLES
from tests.support.deployment import COMMANDS
from tests.support.zygote import Command

GOOD = {"SOT_PATH": "bucket", "CLICKHOUSE_HOST": "db"}
SECRET = "canary-5ecr3t"
#: Secrets that are of a form.
SECRET_FORMS = {
    "PING_URL": f"https://hc-ping.com/{SECRET}",
    "NOTIFY_URLS": f"slack://{SECRET}/a, mailto://{SECRET}@b.c",
    "API_TOKEN": SECRET * 2,
}


def load(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> Settings:
    """Return the settings of an environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def mistakes(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> list[str]:
    """Return what is said about an environment, line by line."""
    with pytest.raises(ConfigError) as error:
        load(monkeypatch, variables)
    return str(error.value).splitlines()


def variables_in(lines: list[str]) -> list[str]:
    """Return what stands before the colon of each line."""
    return sorted(line.partition(":")[0] for line in lines)


def test_the_defaults_are_those_of_the_system_that_this_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source and a warehouse are all that must be said."""
    found = load(monkeypatch, GOOD)
    assert found.networks == ("ethereum", "bitcoin", "torus")
    assert (found.window_days, found.retry_attempts, found.retry_delay) == (195, 3, 300)
    assert found.servers("torus") == (ServerAddress("db", 9000, 8123),)
    assert found.database("torus") == "torus"
    assert (found.log_format, found.log_level) == ("text", "INFO")


def test_the_tables_are_all_or_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the tables, whatever that of the names; any of them may be left out."""
    assert load(monkeypatch, GOOD).tables == TABLES
    chosen = load(monkeypatch, {**GOOD, "INGESTION_TABLES": "raw_clusters, raw_alerts"})
    assert [table.name for table in chosen.tables] == ["raw_alerts", "raw_clusters"]


@pytest.mark.parametrize(
    ("text", "retention"),
    [("forever", None), ("400d", relativedelta(days=400)), ("13months", relativedelta(months=13))],
)
def test_days_are_kept_for_ever_or_for_a_span(
    text: str, retention: relativedelta | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unset is for ever: nothing is retired that nobody asked to be."""
    assert load(monkeypatch, GOOD).retention is None
    assert load(monkeypatch, {"INGESTION_KEEP": text}).retention == retention


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an env file or a compose file leaves empty changes nothing."""
    everything = {field.alias: "" for field in Settings.model_fields.values() if field.alias}
    empty = everything | {"TORUS_CLICKHOUSE_HOST": "", "TORUS_CLICKHOUSE_PORT": "", "TORUS_CLICKHOUSE_DATABASE": ""}
    assert load(monkeypatch, empty | GOOD) == Settings.model_validate(GOOD)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INGESTION_NETWORKS", "torus,Bitcoin"),
        ("INGESTION_TABLES", "raw_alerts,alerts"),
        ("INGESTION_TABLES", "raw_alerts,raw_alerts"),
        ("INGESTION_TABLES", "raw_money_flows"),
        ("INGESTION_TABLES", ","),
        ("INGESTION_NETWORKS", "torus,,bitcoin"),
        ("INGESTION_NETWORKS", "torus,torus"),
        ("INGESTION_WINDOW_DAYS", "0"),
        ("INGESTION_WINDOW_DAYS", "65536"),
        ("INGESTION_WINDOW_DAYS", "7d"),
        ("INGESTION_RETRY_ATTEMPTS", "0"),
        ("INGESTION_RETRY_ATTEMPTS", "three"),
        ("INGESTION_RETRY_DELAY", "-1"),
        ("INGESTION_RETRY_DELAY", "inf"),
        ("INGESTION_RETRY_DELAY", "nan"),
        ("INGESTION_KEEP", "0d"),
        ("INGESTION_KEEP", "never"),
        ("INGESTION_ALLOW_MD5", "perhaps"),
        ("INGESTION_IGNORE_EXTRA_COLUMNS", "2"),
        ("SOT_S3_ENDPOINT", "minio:9000"),
        ("SOT_S3_ENDPOINT", "http://minio:9000/?bucket=snapshots"),
        ("SOT_S3_ENDPOINT", "https://minio/a path"),
        ("SOT_S3_ENDPOINT", "s3://minio/path"),
        ("SOT_S3_ANONYMOUS", "maybe"),
        ("CLICKHOUSE_PORT", "0"),
        ("CLICKHOUSE_PORT", "65536"),
        ("CLICKHOUSE_HTTP_PORT", "http"),
        ("CLICKHOUSE_SECURE", "tls"),
        ("TORUS_CLICKHOUSE_PORT", "none"),
        ("TORUS_CLICKHOUSE_HTTP_PORT", "-8123"),
        ("TORUS_CLICKHOUSE_DATABASE", "torus; DROP"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_told_by_its_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, which shows what was found."""
    (line,) = mistakes(monkeypatch, {**GOOD, name: value})
    assert line.startswith(f"{name}: ")
    assert any(part in line for part in (repr(value), *map(repr, value.split(",")), "twice"))


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong values, and what is wrong with the right ones taken together, in one go; each once."""
    wrong = {
        "INGESTION_NETWORKS": "Torus,bitcoin,ethereum",
        "INGESTION_RETRY_ATTEMPTS": "x",
        "CLICKHOUSE_PORT": "0",
        "BITCOIN_CLICKHOUSE_HOST": "db",
        "BITCOIN_CLICKHOUSE_HTTP_PORT": "x",
        "LOG_LEVEL": "loud",
    }
    assert variables_in(mistakes(monkeypatch, wrong)) == [
        "BITCOIN_CLICKHOUSE_HTTP_PORT",
        "CLICKHOUSE_PORT",
        "ETHEREUM_CLICKHOUSE_HOST",
        "INGESTION_NETWORKS",
        "INGESTION_RETRY_ATTEMPTS",
        "LOG_LEVEL",
        "SOT_S3_BUCKET or SOT_PATH or SOT_HOST",
    ]


def test_the_user_of_the_sot_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that somebody forgot is not guessed, and neither is the database of several networks."""
    found = mistakes(monkeypatch, {"CLICKHOUSE_HOST": "db", "SOT_HOST": "sot"})
    assert [line.split(":")[0] for line in found] == ["SOT_USER", "SOT_DATABASE"]


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"SOT_PATH": "bucket", "SOT_S3_BUCKET": "bucket"},
        {"SOT_PATH": "bucket", "SOT_HOST": "sot", "SOT_USER": "reader", "SOT_DATABASE": "sot_{network}"},
    ],
)
def test_exactly_one_source(sources: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """None and two are mistakes that name the variables which are set."""
    (line,) = mistakes(monkeypatch, {"CLICKHOUSE_HOST": "db", **sources})
    assert "exactly one source must be configured" in line
    found = line.rpartition("configured, ")[2]
    named = [name for name in ("SOT_PATH", "SOT_S3_BUCKET", "SOT_HOST") if name in found]
    assert named == [name for name in ("SOT_PATH", "SOT_S3_BUCKET", "SOT_HOST") if name in sources]


@pytest.mark.parametrize(
    "warehouses",
    [
        {},
        {"CLICKHOUSE_HOST": "db", "WAREHOUSE_PATH": "warehouse"},
        {"TORUS_CLICKHOUSE_HOST": "db", "WAREHOUSE_PATH": "warehouse"},
    ],
)
def test_exactly_one_warehouse(warehouses: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """None and two are mistakes that name the variables which are set, one network's own server too."""
    (line,) = mistakes(monkeypatch, {"SOT_PATH": "bucket", **warehouses})
    assert "exactly one warehouse must be configured" in line
    found = line.rpartition("configured, ")[2]
    assert found == (" and ".join(warehouses) + " are set" if warehouses else "none is set")


def test_a_server_of_nobodys_is_no_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of our form for a network that is not configured, as other software may have, counts for nothing."""
    variables = {"SOT_PATH": "bucket", "WAREHOUSE_PATH": "warehouse", "GRAFANA_CLICKHOUSE_HOST": "elsewhere"}
    assert load(monkeypatch, variables).servers("torus") == ()


def test_a_variable_of_other_software_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network that is not configured is given may have any form."""
    other = {"GRAFANA_CLICKHOUSE_HOST": "https://grafana:3000", "GRAFANA_CLICKHOUSE_PORT": "tcp://10.0.0.1:9000"}
    load(monkeypatch, {**GOOD, **other})
    assert variables_in(mistakes(monkeypatch, {"INGESTION_NETWORKS": "torus, grafana"})) == sorted(other)


def test_a_network_overrides_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, ports and database, each by itself; the others keep what is common."""
    found = load(
        monkeypatch,
        {
            **GOOD,
            "CLICKHOUSE_PORT": "9100",
            "TORUS_CLICKHOUSE_HOST": "other",
            "TORUS_CLICKHOUSE_HTTP_PORT": "8999",
            "BITCOIN_CLICKHOUSE_PORT": "9200",
            "BITCOIN_CLICKHOUSE_DATABASE": "btc",
        },
    )
    assert found.servers("torus") == (ServerAddress("other", 9100, 8999),)
    assert found.servers("bitcoin") == (ServerAddress("db", 9200, 8123),)
    assert found.servers("ethereum") == (ServerAddress("db", 9100, 8123),)
    assert [found.database(network) for network in ("torus", "bitcoin")] == ["torus", "btc"]


def test_every_network_may_have_a_server_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then CLICKHOUSE_HOST is not needed, until a network without one comes."""
    own = {"SOT_PATH": "bucket", "INGESTION_NETWORKS": "torus", "TORUS_CLICKHOUSE_HOST": "db"}
    assert load(monkeypatch, own).servers("torus") == (ServerAddress("db", 9000, 8123),)
    more = mistakes(monkeypatch, {"INGESTION_NETWORKS": "torus,tron"})
    assert variables_in(more) == ["TRON_CLICKHOUSE_HOST"]


def test_two_networks_do_not_share_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one server; of the same name on two servers they are two databases."""
    shared = {**GOOD, "TORUS_CLICKHOUSE_DATABASE": "ethereum"}
    (line,) = mistakes(monkeypatch, shared)
    assert line.startswith("TORUS_CLICKHOUSE_DATABASE: 'ethereum' is ethereum's database already")
    assert load(monkeypatch, {"TORUS_CLICKHOUSE_HOST": "other"}).database("torus") == "ethereum"


def test_passwords_have_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings nor a list of mistakes shows one, nor the one that a URL holds."""
    secrets = {"CLICKHOUSE_PASSWORD": SECRET, "SOT_PASSWORD": SECRET}
    found = load(monkeypatch, {**GOOD, **secrets})
    assert found.clickhouse_password.get_secret_value() == SECRET
    shown = f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"
    assert SECRET not in shown
    wrong = {"SOT_S3_ENDPOINT": f"http://user:{SECRET}@minio", "CLICKHOUSE_PORT": "x", "SOT_PATH": ""}
    assert SECRET not in "\n".join(mistakes(monkeypatch, wrong))


@pytest.mark.parametrize("name", secret_variables())
def test_a_secret_can_be_in_a_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every one of them, without the line end that editors add; spaces belong to it. Nothing shows it."""
    path, text = tmp_path / "secret", SECRET_FORMS.get(name, f" {SECRET}\t")
    path.write_text(f"{text}\r\n")
    found = load(monkeypatch, {**GOOD, f"{name}_FILE": str(path), name: ""})
    values = {field.alias: getattr(found, attribute) for attribute, field in Settings.model_fields.items()}
    assert values[name].get_secret_value() == text
    assert SECRET not in f"{found!r} {found.model_dump_json()}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\r\n\n", "is empty"),
        (b"canary-5ecr3t\xff", "cannot be read: it is not UTF-8 text"),
        (b"canary-5ecr3t" * 6_000, "is too large for a secret"),
    ],
)
def test_a_file_without_a_secret_is_a_mistake(
    content: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variable and the path are named, what is in the file is not; the other mistakes are told with it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    lines = mistakes(monkeypatch, {**GOOD, "CLICKHOUSE_PASSWORD_FILE": str(path), "LOG_LEVEL": "loud"})
    assert variables_in(lines) == ["CLICKHOUSE_PASSWORD_FILE", "LOG_LEVEL"]
    assert lines[0] == f"CLICKHOUSE_PASSWORD_FILE: {str(path)!r} {said}"


def test_a_secret_is_given_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable and a file for the same secret: nobody knows which one is meant. An empty _FILE counts as unset."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    both = {**GOOD, "SOT_PASSWORD": SECRET, "SOT_PASSWORD_FILE": str(path)}
    assert mistakes(monkeypatch, both) == ["SOT_PASSWORD_FILE: SOT_PASSWORD is set, too; expected one of them"]
    assert load(monkeypatch, {"SOT_PASSWORD_FILE": ""}).sot_password.get_secret_value() == SECRET


def test_a_url_that_is_a_key_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a token; and not when they are of the wrong form either."""
    assert SECRET not in repr(load(monkeypatch, {**GOOD, **SECRET_FORMS}))
    wrong = mistakes(monkeypatch, {"PING_URL": f"hc-ping.com/{SECRET}", "NOTIFY_URLS": SECRET, "API_TOKEN": SECRET})
    assert variables_in(wrong) == ["API_TOKEN", "NOTIFY_URLS", "PING_URL"]
    assert SECRET not in "\n".join(wrong)


@pytest.mark.parametrize(
    ("url", "is_right"),
    [
        ("https://hc-ping.com/key/{command}-{network}", True),
        ("https://hc-ping.com/key/{verb}", False),
        ("https://hc-ping.com/key/{network", False),
        ("{network}://hc-ping.com/key", False),
    ],
)
def test_a_ping_url_has_two_placeholders(url: str, is_right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another would be asked for as it stands, and nobody would be told."""
    wrong = mistakes(monkeypatch, {"PING_URL": url})  # no source is named either
    assert ("PING_URL" in variables_in(wrong)) is not is_right


def command(directory: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing but these variables."""
    base = {"PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}", "HOME": os.environ["HOME"]}
    process = Command(arguments, {**base, **variables}, directory, None)
    stdout, stderr = process.communicate(60)
    return subprocess.CompletedProcess(arguments, process.wait(), stdout, stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("sot-ingest", "run", "--scheduler", "local"),
        ("sot-ingest", "status"),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--local-scheduler"),
        ("python", "-m", "luigi", "--module", "pipeline.tasks", "IngestDaily"),
    ],
    ids=" ".join,
)
def test_every_command_refuses_a_wrong_configuration(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """All mistakes as events of the log, exit 2, nothing made, no traceback, no password."""
    wrong = {"CLICKHOUSE_PORT": "x", "LOG_LEVEL": "loud", "SOT_PATH": "a", "SOT_S3_BUCKET": "b"}
    result = command(tmp_path, {**wrong, "CLICKHOUSE_PASSWORD": SECRET, "LOG_FORMAT": "json"}, *arguments)
    assert result.returncode == 2
    events = [json.loads(line) for line in result.stderr.splitlines()]
    mistakes = [event for event in events if "exit_code" not in event]
    assert [event["exit_code"] for event in events[len(mistakes) :]] == ([] if "status" in arguments else [2])
    assert variables_in([event["message"] for event in mistakes]) == [
        "CLICKHOUSE_HOST or WAREHOUSE_PATH",
        "CLICKHOUSE_PORT",
        "LOG_LEVEL",
        "SOT_S3_BUCKET or SOT_PATH or SOT_HOST",
    ]
    assert all("docs/configuration.md" in event["hint"] for event in mistakes)
    assert SECRET not in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


DAY = ("--date", "2025-08-01")
LUIGI = ("luigi", "--module", "pipeline.tasks")


@pytest.mark.parametrize("configured", ["etherum", "tron", "Ethereum"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("sot-ingest", "run", "--wait", "2h", "--network"),
        ("sot-ingest", "run", *DAY, "--network", "torus", "--network"),
        ("sot-ingest", "plan", *DAY, "--network"),
        ("sot-ingest", "backfill", "--from", "2025-08-01", "--to", "2025-08-02", "--network"),
        ("sot-ingest", "rerun", *DAY, "--yes", "--network"),
        ("sot-ingest", "rollback", *DAY, "--yes", "--network"),
        ("sot-ingest", "history", "--network"),
        ("sot-ingest", "verify", "--network"),
        ("sot-ingest", "check", "--network"),
        ("sot-ingest", "unblock", "--network"),
        (*LUIGI, "IngestSnapshot", "--network"),
        (*LUIGI, "LoadTable", "--table", "raw_alerts", "--network"),
        (*LUIGI, "IngestDaily", "--networks"),
        (*LUIGI, "IngestRange", "--first", "2025-08-01", "--last", "2025-08-02", "--networks"),
    ],
    ids=lambda arguments: " ".join(arguments[-6:]),
)
def test_a_network_is_one_of_those_configured(arguments: tuple[str, ...], configured: str, tmp_path: Path) -> None:
    """Any other is refused with exit 2, and the one that is meant is named, before anything is made or asked."""
    variables = {"SOT_PATH": "bucket", "WAREHOUSE_PATH": "warehouse", "WORK_PATH": "work"}
    name = json.dumps(["torus", configured]) if arguments[-1] == "--networks" else configured
    result = command(tmp_path, variables, *arguments, name)
    near = "did you mean ethereum?" if configured.lower().startswith("eth") else "ethereum, bitcoin, torus"
    assert result.returncode == 2
    assert f"'{configured}' is not one of INGESTION_NETWORKS ({near})" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("sot-ingest", "run", "--date"),
        ("sot-ingest", "plan", "--date"),
        ("sot-ingest", "rerun", "--network", "torus", "--yes", "--date"),
        ("sot-ingest", "rollback", "--network", "torus", "--yes", "--date"),
        ("sot-ingest", "backfill", "--from", "2025-08-01", "--to"),
        ("sot-ingest", "status", "--date"),
        ("sot-ingest", "history", "--date"),
        ("sot-ingest", "verify", "--date"),
        (*LUIGI, "IngestSnapshot", "--network", "torus", "--processing-date"),
        (*LUIGI, "IngestDaily", "--processing-date"),
        (*LUIGI, "IngestRange", "--first", "2025-08-01", "--last"),
    ],
    ids=" ".join,
)
def test_a_day_that_has_not_begun_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """In UTC: exit 2, and the newest day that there can be is said; nothing is made or waited for."""
    variables = {"SOT_PATH": "bucket", "WAREHOUSE_PATH": "warehouse", "WORK_PATH": "work"}
    day = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()  # also where midnight comes in between
    result = command(tmp_path, variables, *arguments, day)
    assert result.returncode == 2
    assert f"{day} is in the future: the newest day that upstream can have is today in UTC, " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_today_has_begun() -> None:
    """Its snapshot's window ends at 00:00 of it, so that it can be there."""
    today = datetime.now(UTC).date()
    assert future_day(today) is None
    assert future_day(today - timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SOT_S3_BUKET", "SOT_S3_BUCKET"),
        ("SOTS3_BUCKET", "SOT_S3_BUCKET"),
        ("sot_s3_bucket", "SOT_S3_BUCKET"),
        ("SOT_NOTHING_OF_OURS", None),
        ("INGESTION_NETWORK", "INGESTION_NETWORKS"),
        ("INGESTON_NETWORKS", "INGESTION_NETWORKS"),
        ("CLICKHOUSE_PASWORD", "CLICKHOUSE_PASSWORD"),
        ("CLICKHOUSE_PASSWD", "CLICKHOUSE_PASSWORD"),
        ("CLICKHOUSE_PASWORD_FILE", "CLICKHOUSE_PASSWORD_FILE"),
        ("CLICKHOUSE_USERNAME", "CLICKHOUSE_USER"),
        ("CLICKHOUSE_HOSTS", "CLICKHOUSE_HOST"),
        ("CLIKHOUSE_HOST", "CLICKHOUSE_HOST"),
        ("TORUS_CLICKHOUSE_HOTS", "TORUS_CLICKHOUSE_HOST"),
        ("TORUS_CLICKHOUSE_DB", "TORUS_CLICKHOUSE_DATABASE"),
        ("TOURS_CLICKHOUSE_HOST", "TORUS_CLICKHOUSE_HOST"),
        ("TORUS_CLICKHOUSE_PASSWORD", "CLICKHOUSE_PASSWORD"),
        ("WORKPATH", "WORK_PATH"),
        ("PING_ULR", "PING_URL"),
        ("NOTIFY_URL", "NOTIFY_URLS"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("WAREHOUSE_PAHT", "WAREHOUSE_PATH"),
        ("LUIGI_CONFIG_PAHT", "LUIGI_CONFIG_PATH"),
    ],
)
def test_a_variable_that_looks_like_one_of_ours(name: str, meant: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the one that it is most like, and its value is not shown; empty it counts as unset."""
    found = load(monkeypatch, {**GOOD, name: "9"})
    expected = f" (did you mean {meant}?)" if meant else ""
    assert list(ignored_variables(found)) == [f"{name} is no variable of sot-ingest{expected}"]
    monkeypatch.setenv(name, "")
    assert list(ignored_variables(found)) == []


def test_variables_of_other_programs_are_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ClickHouse's containers, AWS, luigi, Kubernetes, and another program's server."""
    (tmp_path / "secret").write_text("secret")
    of_clickhouse = (
        "DB CONFIG UID GID RUN_AS_ROOT DO_NOT_CHOWN SKIP_USER_SETUP DEFAULT_ACCESS_MANAGEMENT WATCHDOG_ENABLE"
    )
    names = [f"CLICKHOUSE_{name}" for name in of_clickhouse.split()]
    names += ["CLICKHOUSE_SERVICE_HOST", "CLICKHOUSE_SERVICE_PORT", "CLICKHOUSE_PORT_9000_TCP_ADDR"]
    names += ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "LUIGI_CONFIG_PATH", "BOTO_CONFIG"]
    names += ["GRAFANA_CLICKHOUSE_HOST", "GRAFANA_CLICKHOUSE_PASSWORD", "TEST_CLICKHOUSE_HOST", "SOT_INGEST_VERSION"]
    names += ["LOG_DIR", "LOG_FILE", "NOTIFY_SOCKET", "REPORT_DIR", "WORKSPACE", "DOT_PATH", "BOT_HOST", "PYTHONPATH"]
    documented = {f"{name}_FILE": str(tmp_path / "secret") for name in ("SOT_PASSWORD", "CLICKHOUSE_PASSWORD")}
    found = load(monkeypatch, {**GOOD, **dict.fromkeys(names, "9"), **documented, "TORUS_CLICKHOUSE_HOST": "db"})
    assert list(ignored_variables(found)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("sot-ingest", "run", "--date", "2025-13-01"),
        ("sot-ingest", "run", "--network", "Torus"),
        ("sot-ingest", "run", "--workers", "0"),
        ("sot-ingest", "status", "--days", "0"),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--networks", '["Torus"]', "--local-scheduler"),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--networks", "torus,3", "--local-scheduler"),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--networks", "[torus]", "--local-scheduler"),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--networks", "[]", "--local-scheduler"),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--no-such-parameter", "--local-scheduler"),
        ("luigi", "--module", "pipeline.tasks", "IngestDaily", "--workers", "two"),
        ("luigi", "--module", "pipeline.tasks", "LoadTable", "--table"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused_like_a_wrong_configuration(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Exit 2, a line that names the option, no traceback."""
    result = command(tmp_path, {"SOT_PATH": ".", "WAREHOUSE_PATH": "warehouse"}, *arguments)
    assert result.returncode == 2
    option = next(argument for argument in arguments[4 if arguments[0] == "luigi" else 2 :] if argument[:2] == "--")
    assert option in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("db", ("db", 9000, 8123)),
        ("click_house-1.internal.example.", ("click_house-1.internal.example.", 9000, 8123)),
        ("10.0.0.1", ("10.0.0.1", 9000, 8123)),
        ("db:9440", ("db", 9440, 8123)),
        ("db:9440:8443", ("db", 9440, 8443)),
        ("10.0.0.1:9440:8443", ("10.0.0.1", 9440, 8443)),
        ("::1", ("::1", 9000, 8123)),
        ("[::1]", ("::1", 9000, 8123)),
        ("[::1]:9440", ("::1", 9440, 8123)),
        ("[2001:DB8:0::1]:9440:8443", ("2001:db8::1", 9440, 8443)),
        ("1:2:3:4:5:6:7:8", ("1:2:3:4:5:6:7:8", 9000, 8123)),
    ],
)
def test_a_host_may_name_its_ports(host: str, address: tuple[str, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the warehouse, of one network's, of the SOT; a port that is not named is the variable's."""
    sot = {"SOT_PATH": "", "SOT_HOST": host, "SOT_USER": "reader", "SOT_DATABASE": "sot_{network}"}
    found = load(monkeypatch, {"CLICKHOUSE_HOST": host, "TORUS_CLICKHOUSE_HOST": host, **sot})
    assert found.servers("ethereum") == found.servers("torus") == (found.sot_server,) == (ServerAddress(*address),)


def test_several_hosts_are_the_replicas_of_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order given, each with the ports that stand behind it or those that are common."""
    shard = {"TORUS_CLICKHOUSE_HOST": "[::1]:9440, ::2,10.0.0.3:9001:8124", "TORUS_CLICKHOUSE_HTTP_PORT": "8124"}
    found = load(monkeypatch, {**GOOD, "CLICKHOUSE_HOST": "ch1,ch2", **shard, "CLICKHOUSE_MIN_COPIES": "2"})
    assert found.servers("bitcoin") == (ServerAddress("ch1", 9000, 8123), ServerAddress("ch2", 9000, 8123))
    assert found.servers("torus") == (
        ServerAddress("::1", 9440, 8124),
        ServerAddress("::2", 9000, 8124),
        ServerAddress("10.0.0.3", 9001, 8124),
    )


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"CLICKHOUSE_HOST": "ch1,ch1"}, "CLICKHOUSE_HOST: a host is named twice, found 'ch1,ch1'"),
        (
            {"CLICKHOUSE_REPLICATED": "yes"},
            "CLICKHOUSE_REPLICATED: Input should be 'auto', 'true' or 'false', found 'yes'",
        ),
        (
            {"CLICKHOUSE_HOST": "ch1,ch2", "CLICKHOUSE_REPLICATED": "false"},
            "CLICKHOUSE_REPLICATED: 'false', but ethereum has 2 hosts; expected auto or true",
        ),
        (
            {"CLICKHOUSE_HOST": "ch1,ch2", "TORUS_CLICKHOUSE_HOST": "ch3", "CLICKHOUSE_MIN_COPIES": "2"},
            "CLICKHOUSE_MIN_COPIES: 2, but torus has 1 host",
        ),
        (
            {"CLICKHOUSE_REPLICA_PATH": "/tables/{table}"},
            "CLICKHOUSE_REPLICA_PATH: '/tables/{table}' is the same for the tables of ethereum, bitcoin, torus: put "
            "{database} into it",
        ),
        (
            {"CLICKHOUSE_REPLICA_PATH": "/{database}"},
            "CLICKHOUSE_REPLICA_PATH: '/{database}', expected a path from / with {table} in it",
        ),
        (
            {"CLICKHOUSE_REPLICA_PATH": "/{database}/{table}'"},
            'CLICKHOUSE_REPLICA_PATH: has "\'" in it, which no path in Keeper should have',
        ),
        (
            {"TORUS_CLICKHOUSE_HOST": "ch2,db", "TORUS_CLICKHOUSE_DATABASE": "ethereum"},
            "TORUS_CLICKHOUSE_DATABASE: 'ethereum' is ethereum's database already; every network needs its own",
        ),
    ],
)
def test_what_is_no_shard_is_a_mistake(variables: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says which variable, and what it contradicts."""
    assert mistakes(monkeypatch, {**GOOD, **variables}) == [line]


@pytest.mark.parametrize("name", ["CLICKHOUSE_HOST", "TORUS_CLICKHOUSE_HOST", "SOT_HOST"])
@pytest.mark.parametrize(
    "host",
    [
        *("http://db:8123", "clickhouse://db", "db/torus", "db:8123/", "db?x", "tcp://[::1]:9000"),
        *('"db"', "'db'", "`db`", " db", "db ", "d b", "db\n.internal", "db\tx", "db,,", ",db", "db;", "db=", "döner"),
        *(
            "db:",
            "host::9000",
            "db:0",
            "db:65536",
            "db:port",
            "db:9000:",
            "db:9000:0",
            "db:9000:8123:1",
            "db:-1",
            "db:٣",
        ),
        *("[::1", "::1]", "[db]", "[]", "[::1]9000", "[10.0.0.1]", "::1::", ":9000", ":", "-db", "db-", ".db", "a..b"),
        *("256.1.1.1", "10.0.0", "9000", "l" * 64, "user@db"),
    ],
)
def test_a_host_of_another_form_is_a_mistake(name: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what was found, and the forms that are expected."""
    sot = {"SOT_HOST": "sot", "SOT_USER": "reader", "SOT_DATABASE": "sot_{network}"}
    (line,) = mistakes(monkeypatch, {"CLICKHOUSE_HOST": "db", **sot, name: host})
    assert line == (
        f"{name}: expected a name or an address, and maybe its ports, as in db, db:9000, db:9000:8123 or "
        f"[2001:db8::1]:9000, found {host!r}"
    )


def test_a_login_in_a_host_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a URL nor without a scheme."""
    for host in (f"clickhouse://user:{SECRET}@db", f"user:{SECRET}@db", f"//{SECRET}@db", f"user:{SECRET}/@db:9000"):
        (line,) = mistakes(monkeypatch, {**GOOD, "CLICKHOUSE_HOST": host})
        assert SECRET not in line
        assert "@db" in line


@pytest.mark.parametrize("prefix", ["CLICKHOUSE", "TORUS_CLICKHOUSE", "SOT"])
def test_a_port_is_named_once(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the host or in its variable; the same in both is no mistake, another one is."""
    sot = {"SOT_HOST": "sot", "SOT_USER": "reader", "SOT_DATABASE": "sot_{network}"}
    given = {"CLICKHOUSE_HOST": "db", **sot, f"{prefix}_HOST": "other:9440:8443"}
    load(monkeypatch, {**given, f"{prefix}_PORT": "9440", f"{prefix}_HTTP_PORT": "8443"})
    found = mistakes(monkeypatch, {f"{prefix}_PORT": "9000", f"{prefix}_HTTP_PORT": "8123"})
    assert found == [
        f"{prefix}_PORT: 9000, but {prefix}_HOST names port 9440; name it once",
        f"{prefix}_HTTP_PORT: 8123, but {prefix}_HOST names port 8443; name it once",
    ]


def test_a_networks_port_goes_before_the_common_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of one network counts for it; the ports of the common host are not those of a host of its own."""
    common = {"SOT_PATH": "bucket", "CLICKHOUSE_HOST": "db:9440"}
    found = load(monkeypatch, {**common, "TORUS_CLICKHOUSE_PORT": "9001", "BITCOIN_CLICKHOUSE_HOST": "other"})
    assert [found.servers(name)[0] for name in ("ethereum", "torus", "bitcoin")] == [
        ServerAddress("db", 9440, 8123),
        ServerAddress("db", 9001, 8123),
        ServerAddress("other", 9000, 8123),
    ]


def test_an_address_is_shown_as_one_would_write_it() -> None:
    """With IPv6 in brackets."""
    assert (ServerAddress("db", 1, 2).native, ServerAddress("db", 1, 2).http) == ("db:1", "db:2")
    assert (ServerAddress("::1", 1, 2).native, ServerAddress("::1", 1, 2).http) == ("[::1]:1", "[::1]:2")


def test_a_single_network_has_the_database_of_the_replaced_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLICKHOUSE_DATABASE counts where one network is configured, after the network's own variable."""
    one = {**GOOD, "INGESTION_NETWORKS": "torus", "CLICKHOUSE_DATABASE": "sot"}
    assert load(monkeypatch, one).database("torus") == "sot"
    assert load(monkeypatch, {"TORUS_CLICKHOUSE_DATABASE": "own"}).database("torus") == "own"


def test_several_networks_have_no_common_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLICKHOUSE_DATABASE is then a mistake that says what to set."""
    (line,) = mistakes(monkeypatch, {**GOOD, "CLICKHOUSE_DATABASE": "sot"})
    assert line == (
        "CLICKHOUSE_DATABASE: 'sot' is the same for ethereum, bitcoin, torus, and every network needs its own: "
        "set ETHEREUM_CLICKHOUSE_DATABASE and so on instead, or name one network"
    )
    (line,) = mistakes(monkeypatch, {"CLICKHOUSE_DATABASE": "a b"})
    assert line == "CLICKHOUSE_DATABASE: expected a name of letters, digits and _, found 'a b'"


@pytest.mark.parametrize(
    "name",
    [
        *sorted(field.alias for field in Settings.model_fields.values() if field.alias),
        *("TORUS_CLICKHOUSE_HOST", "TORUS_CLICKHOUSE_PORT", "TORUS_CLICKHOUSE_DATABASE", "SOT_PASSWORD_FILE"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE", "LUIGI_CONFIG_PATH", "SSL_CERT_FILE"),
    ],
)
def test_a_control_character_at_the_end_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every variable that we or our libraries read; the value of a secret is not shown."""
    for end in ("\r", "\n", "\x1b", "\x85"):
        found = mistakes(monkeypatch, {**GOOD, name: f"{SECRET}{end}"})
        said = f"{name}: ends with {end!r}, a control character; has its file the line ends of Windows?"
        assert said in found
        assert SECRET not in said or name not in secret_variables()


def test_a_file_with_the_line_ends_of_windows_is_one_mistake_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right but for its end is not reported for anything else; an empty line is reported, too."""
    values = {
        **GOOD,
        "CLICKHOUSE_PORT": "9000",
        "INGESTION_NETWORKS": "torus",
        "LOG_LEVEL": "info",
        "SOT_S3_REGION": "",
    }
    found = mistakes(monkeypatch, {name: f"{value}\r" for name, value in values.items()})
    assert variables_in(found) == sorted(values)


def test_what_is_not_utf8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password with an umlaut of Latin-1 is no text; one of UTF-8 is the same in every locale."""
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", os.fsdecode("pässword".encode("latin-1")))
    assert mistakes(monkeypatch, GOOD) == ["CLICKHOUSE_PASSWORD: is not UTF-8 text"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["IngestSnapshott", "--network", "torus"],
            "IngestSnapshott is no task of pipeline.tasks (did you mean IngestSnapshot?)",
        ),
        (["IngestSnapshot", "--netwrok", "torus"], "unrecognized arguments: --netwrok torus (did you mean --network?)"),
        (["IngestDaily", "--proccessing-date=2025-08-01"], "(did you mean --processing-date?)"),
        (["IngestDaily", "--local-schedular"], "(did you mean --local-scheduler?)"),
        (["LoadTable", "--network", "torus"], "--table: expected a value"),
        (["LoadTable", "--network", "torus", "--table", "raw_alert"], "raw_alert is not a valid choice"),
        (["IngestRange", "--first", "2025-08-02", "--last", "2025-08-01"], "--last: 2025-08-01 is before 2025-08-02"),
        (["IngestDaily", "--networks", "torus, etherum"], "INGESTION_NETWORKS (did you mean ethereum?)"),
        ([], "No task specified"),
    ],
)
def test_luigi_says_what_is_wrong_with_a_command_line(words: list[str], said: str, tmp_path: Path) -> None:
    """On one line, with the nearest name, where luigi itself would print a traceback; then how the run ended."""
    result = command(tmp_path, {"SOT_PATH": ".", "WAREHOUSE_PATH": "warehouse"}, *LUIGI, *words)
    error, end = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (2, "")
    assert said in error
    assert "Run ended: " in end
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("luigi_cfg", "said"),
    [
        ("[core]\ndefault-scheduler-port = abc", ": invalid literal for int() with base 10: 'abc'"),
        ("[resources]\nloads = many", "[resources] loads of luigi.cfg: invalid literal for int() with base 10: 'many'"),
        ("[worker]\nwait_interval = soon", "[worker] wait_interval of luigi.cfg: could not convert string to float"),
    ],
)
@pytest.mark.parametrize(
    "arguments", [("sot-ingest", "run", *DAY), (*LUIGI, "IngestDaily", "--local-scheduler")], ids=" ".join
)
def test_a_wrong_luigi_cfg_is_refused(arguments: tuple[str, ...], luigi_cfg: str, said: str, tmp_path: Path) -> None:
    """Exit 2, with the section and the option, where luigi itself would print a traceback."""
    (tmp_path / "luigi.cfg").write_text(f"{luigi_cfg}\n", "utf-8")
    result = command(tmp_path, {"SOT_PATH": ".", "WAREHOUSE_PATH": "warehouse", "WORK_PATH": "work"}, *arguments)
    assert result.returncode == 2
    assert said in result.stderr.splitlines()[0]
    assert "Traceback" not in result.stderr


def test_luigi_shows_what_a_task_takes(tmp_path: Path) -> None:
    """Exit 0, and no parameter that is for other tasks alone."""
    result = command(tmp_path, {"SOT_PATH": ".", "WAREHOUSE_PATH": "warehouse"}, *LUIGI, "IngestSnapshot", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "--processing-date" in result.stdout
    assert "priority" not in result.stdout
