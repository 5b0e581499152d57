"""sot-ingest doctor: every check by itself, what it says and what the exit code says; it changes nothing."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import luigi.configuration
import pytest

from pipeline.dates import yesterday
from pipeline.errors import SourceError, SourceUnavailableError
from pipeline.graph.context import Context
from pipeline.operations import doctor
from pipeline.operations.doctor import CheckResult, Examination, local, services
from pipeline.settings import Settings, load_settings
from pipeline.snapshot import Snapshot
from pipeline.sources.sot_tables import SOT_TABLES
from tests.support.clickhouse import OwnClickHouse, User, free_ports
from tests.support.deployment import HASTE, Deployment, EmbeddedReader, ServerReader, in_bucket, in_directory
from tests.support.s3 import Bucket
from tests.support.sot import Sot
from tests.system.test_docs import GRANTS, single_grants, without_grantee

ROOT = Path(__file__).parents[2]
SECRET = "canary-5ecr3t"


def findings(stdout: str) -> dict[str, list[tuple[str, str]]]:
    """Return state and text of what was found, by check."""
    found: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(stdout)["findings"]:
        found.setdefault(each["check"], []).append((each["state"], each["text"]))
    return found


def states(stdout: str) -> dict[str, list[str]]:
    """Return the states of what was found, by check."""
    return {check: [state for state, _ in found] for check, found in findings(stdout).items()}


def examination(settings: Settings) -> Examination:
    """Return what checks are given."""
    return Examination(Context(settings))


def settings_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """Return the settings of an environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """On a disk, as a work directory should be; other tests may write into memory."""
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
        yield Path(directory)


@pytest.fixture
def server(own_clickhouse: Callable[..., OwnClickHouse]) -> OwnClickHouse:
    """A server with a user who has all grants, one who has few, and one who reads three of upstream's tables."""
    reads = [f"GRANT SELECT ON sot.{table}" for table in list(SOT_TABLES.values())[:3]]
    return own_clickhouse(
        users={
            "granted": User(SECRET, tuple(without_grantee(GRANTS))),
            "few": User(SECRET, ("GRANT SELECT ON torus.*", "GRANT INSERT ON torus.*")),
            "reader": User(SECRET, tuple(reads)),
        }
    )


def test_it_tells_what_is_well_and_what_is_not(server: OwnClickHouse, bucket: Bucket, tmp_path: Path) -> None:
    """All well: exit 0. Then several mistakes at once, each told by its own check: exit 2. No secret, no trace."""
    reader = ServerReader(server, "", ("torus",))
    login = {"CLICKHOUSE_USER": "granted", "CLICKHOUSE_PASSWORD": SECRET, "INGESTION_NETWORKS": "torus"}
    deployment = Deployment(in_bucket(bucket.name, bucket.endpoint), reader, tmp_path / "run", login)
    assert deployment.command("python", "-m", "pipeline.demo.store", "--days", "1").exit_code == 0
    shutil.copy(ROOT / "luigi.cfg", deployment.directory)

    well = deployment.command("sot-ingest", "doctor", "--json")
    found = findings(well.stdout)
    assert (well.exit_code, well.stderr) == (0, "")
    here = {"environment", "audits", "luigi.cfg", "work directory", "disk space"}
    assert found.keys() == {"source", "warehouse", "luigid", "clock", *here}
    assert states(well.stdout) | {"luigid": []} == {
        "source": ["ok"],
        "warehouse": ["ok", "ok", "ok", "ok"],
        "luigid": [],
        "clock": ["ok", "ok"],
        "environment": ["ok"],
        "audits": ["ok", "ok"],
        "luigi.cfg": ["ok"],
        "work directory": ["ok"],
        "disk space": ["ok"],
    }
    assert found["source"] == [("ok", f"s3://{bucket.name}, signed: newest of torus is {yesterday()}")]
    assert "1 MiB expected for 1 networks (as the newest snapshots are)" in found["disk space"][0][1]
    settings = json.loads(well.stdout)["settings"]
    assert (settings["CLICKHOUSE_USER"], settings["CLICKHOUSE_PASSWORD"]) == ("granted", doctor.MASK)
    assert (settings["SOT_PASSWORD"], settings["TORUS_CLICKHOUSE_DATABASE"]) == ("", "torus")

    deployment.variables |= {
        "CLICKHOUSE_USER": "few",
        "SOT_S3_BUCKET": "another",
        "LUIGI_CONFIG_PATH": str(tmp_path / "nowhere.cfg"),
        "WORK_PATH": str(tmp_path / "file" / "work"),
    }
    (tmp_path / "file").touch(mode=0o444)
    wrong = deployment.command("sot-ingest", "doctor", "--json")
    found = findings(wrong.stdout)
    assert wrong.exit_code == 2
    assert {check: said for check, said in states(wrong.stdout).items() if "failed" in said} == {
        "source": ["failed"],
        "warehouse": ["ok", "ok", "failed", "ok"],
        "luigi.cfg": ["failed"],
        "work directory": ["failed"],
    }
    assert "there is no such bucket" in found["source"][0][1]
    lacked = found["warehouse"][2][1].partition(" lacks ")[2].split(", ")
    assert {"CREATE TABLE ON torus.*", "ALTER DELETE ON torus.*", "CREATE DATABASE ON torus.*"} <= set(lacked)
    assert "nowhere.cfg, which is not there" in found["luigi.cfg"][0][1]
    assert SECRET not in well.stdout + wrong.stdout + wrong.stderr
    assert not deployment.work.exists()
    assert server.http("SELECT count() FROM system.databases WHERE name = 'torus'") == "0\n"


def test_the_grants_that_it_asks_for_are_those_of_the_file() -> None:
    """One privilege each, on a network's database and at large."""
    of_database = {f"{privilege} ON torus.*" for privilege in (*services.DATABASE_GRANTS, "CREATE DATABASE")}
    documented = {grant.removeprefix("GRANT ") for grant in without_grantee(single_grants())}
    assert documented == of_database | set(services.GRANTS)


def test_what_does_not_answer_may_come_back(tmp_path: Path, samples: Path) -> None:
    """Exit 35, the warehouse's error and hint; the other checks are made all the same."""
    dead = ServerReader(OwnClickHouse(tmp_path / "never-started"), "")
    deployment = Deployment(in_directory(samples), dead, tmp_path / "run", dict(HASTE))
    result = deployment.command("sot-ingest", "doctor")
    assert result.exit_code == 35
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines() if line[:1].strip()]
    said = {(line[0], line[1]) for line in lines}
    assert {("warehouse", "failed"), ("clock", "warning"), ("source", "warning")} <= said
    assert "Connection refused" in result.stdout
    assert re.search(r"^ +→ see that ClickHouse runs and can be reached", result.stdout, re.MULTILINE)
    assert dead.server.password not in result.stdout + result.stderr


def test_offline_it_asks_nobody(tmp_path: Path) -> None:
    """Only this host is looked at, whatever is down, the names of variables too: of those that are like one of ours."""
    source = in_bucket("nowhere", f"http://127.0.0.1:{free_ports(1)[0]}")
    misspelt = {"SOT_S3_BUKET": SECRET, "TORUS_CLICKHOUSE_HOTS": SECRET}
    deployment = Deployment(source, EmbeddedReader(tmp_path / "warehouse"), tmp_path / "run", misspelt)
    result = deployment.command("sot-ingest", "doctor", "--offline", "--json")
    assert result.exit_code == 0
    assert states(result.stdout) == {
        "environment": ["warning", "warning"],
        "audits": ["ok"],
        "luigi.cfg": ["warning"],
        "work directory": ["ok"],
        "disk space": ["ok"],
    }
    said = [text for _, text in findings(result.stdout)["environment"]]
    assert sorted(said) == [
        "SOT_S3_BUKET is no variable of sot-ingest (did you mean SOT_S3_BUCKET?)",
        "TORUS_CLICKHOUSE_HOTS is no variable of sot-ingest (did you mean TORUS_CLICKHOUSE_HOST?)",
    ]
    assert SECRET not in result.stdout + result.stderr
    assert not (tmp_path / "warehouse").exists()


def test_the_sot_clickhouse_must_let_its_tables_be_read(server: OwnClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table that the user may not read is named; nothing is waited for."""
    variables = Sot(server, "sot").variables(SOT_USER="reader", SOT_PASSWORD=SECRET, CLICKHOUSE_HOST="nowhere")
    found = list(services.check_source(examination(settings_of(monkeypatch, **variables))))
    assert [finding.state for finding in found] == ["ok", "ok", "failed"]
    assert found[2].text.endswith("reader lacks SELECT ON sot.core_address_labels")
    variables = Sot(server, "other").variables(CLICKHOUSE_HOST="nowhere")
    assert {f.state for f in services.check_source(examination(settings_of(monkeypatch, **variables)))} == {"ok"}


@pytest.mark.parametrize(
    ("profile", "named"),
    [
        ({"cast_keep_nullable": "1", "cast_keep_nullable const": ""}, ["cast_keep_nullable = 0"]),
        ({"max_execution_time const": "", "async_insert const": ""}, ["async_insert = 0", "max_execution_time = 3600"]),
        ({"insert_deduplicate const": ""}, ["insert_deduplicate = 0"]),
        ({"readonly": "1"}, ["deduplicate_insert = 'backward_compatible_choice'", "async_insert = 0"]),
    ],
)
def test_settings_that_may_not_be_sent_are_named(
    own_clickhouse: Callable[..., OwnClickHouse],
    profile: dict[str, str],
    named: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """All of them, before a run meets the first one; the hint says what an administrator can do."""
    server = own_clickhouse(users={"fixed": User(SECRET, profile="fixed")}, profiles={"fixed": profile})
    variables = {**ServerReader(server, "").environment, "CLICKHOUSE_USER": "fixed", "CLICKHOUSE_PASSWORD": SECRET}
    chosen = settings_of(monkeypatch, SOT_PATH=str(tmp_path), INGESTION_NETWORKS="torus", **variables)
    found = next(services.check_warehouse(examination(chosen)))
    assert (found.state, found.exit_code) == ("failed", 2)
    for setting in named:
        assert setting in found.text
    assert "no constraint" in found.hint


def test_the_sots_settings_are_named(
    own_clickhouse: Callable[..., OwnClickHouse], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user with readonly = 1 sends what is so already; a limit that cuts is refused by its name."""
    cut = {"readonly": "1", "read_overflow_mode": "break", "max_rows_to_read": "1000"}
    users = {"reader": User(SECRET, profile="readonly"), "cut": User(SECRET, profile="cut")}
    sot = Sot(own_clickhouse(users=users, profiles={"cut": cut}), "sot")
    for user, states_found in (("reader", {"ok"}), ("cut", {"failed"})):
        variables = sot.variables(SOT_USER=user, SOT_PASSWORD=SECRET, CLICKHOUSE_HOST="nowhere")
        first = next(services.check_source(examination(settings_of(monkeypatch, **variables))))
        assert {first.state} == states_found
    assert "cut may not set read_overflow_mode = 'throw'" in first.text


def test_the_embedded_warehouse_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its version is told; a directory that cannot be one is a mistake."""
    chosen = settings_of(monkeypatch, SOT_PATH=str(tmp_path), WAREHOUSE_PATH=str(tmp_path / "warehouse"))
    context = Context(chosen)
    (found,) = doctor.examine(context, {"warehouse": services.check_warehouse})
    context.close()
    assert (found.state, found.check) == ("ok", "warehouse")
    (tmp_path / "file").touch()
    chosen = settings_of(monkeypatch, WAREHOUSE_PATH=str(tmp_path / "file"))
    (found,) = doctor.examine(Context(chosen), {"warehouse": services.check_warehouse})
    assert (found.state, found.exit_code) == ("failed", 2)


class Refusing:
    """A source that may not be listed, as S3 answers without s3:ListBucket."""

    uri = "s3://bucket"

    def __init__(self, error: SourceError | None = None) -> None:
        self.error = error

    def manifests(self, network: str) -> Iterator[Snapshot]:
        """Refuse."""
        raise SourceError(f"ListObjectsV2 {network}: AccessDenied (HTTP 403)", hint="check the credentials")

    def manifest_uri(self, snapshot: Snapshot) -> str | None:  # noqa: ARG002  # the protocol's signature
        """Answer, or refuse this, too."""
        if self.error:
            raise self.error
        return None


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (None, "warning", 0),
        (SourceError("HeadObject: AccessDenied (HTTP 403)", hint="check the credentials"), "failed", 2),
        (SourceUnavailableError("HeadObject: SlowDown (HTTP 503)", hint="wait"), "failed", 35),
    ],
)
def test_a_bucket_that_may_not_be_listed(
    error: SourceError | None, state: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading alone is enough for a run, so it is a warning that says what is missing; refused altogether, it fails."""
    context = Context(settings_of(monkeypatch, SOT_S3_BUCKET="bucket", CLICKHOUSE_HOST="nowhere"))
    monkeypatch.setitem(context.__dict__, "source", Refusing(error))
    (found,) = doctor.examine(context, {"source": services.check_source})
    assert (found.state, found.exit_code) == (state, code)
    assert "s3:ListBucket" in found.hint or error


def test_a_mistake_of_a_check_stops_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is a finding, without the text of an error that nobody wrote for others to read."""

    def broken(_: Examination) -> Iterator[CheckResult]:
        yield doctor.ok("first")
        raise KeyError(SECRET)

    chosen = settings_of(monkeypatch, SOT_PATH=str(tmp_path), CLICKHOUSE_HOST="nowhere", WORK_PATH=str(tmp_path))
    found = doctor.examine(Context(chosen), {"broken": broken, "work directory": local.check_work_directory})
    assert [(each.check, each.state) for each in found] == [
        ("broken", "ok"),
        ("broken", "failed"),
        ("work directory", "ok"),
    ]
    assert SECRET not in str(found)


@pytest.mark.parametrize(("codes", "expected"), [([], 0), ([0, 0], 0), ([0, 35], 35), ([35, 2, 0], 2), ([2], 2)])
def test_the_exit_code_is_that_of_what_must_be_set_right(codes: list[int], expected: int) -> None:
    """What may come back by itself counts less than what somebody has to change."""
    assert doctor.exit_code([CheckResult("failed" if code else "ok", "", exit_code=code) for code in codes]) == expected


@pytest.mark.parametrize(
    ("there", "state"), [(1_000.0, "ok"), (995.0, "ok"), (985.0, "warning"), (1_017.0, "warning"), (50.0, "failed")]
)
def test_clocks_are_compared(there: float, state: str) -> None:
    """The time that the question took is nobody's mistake; 10 s are told, 15 minutes are refused."""
    assert services._skew("there", there, 1_000.0, 1_003.0).state == state


@pytest.mark.parametrize(("version", "state"), [("26.3.1.1", "ok"), ("27.1", "ok"), ("25.8.9.1", "failed")])
def test_an_old_clickhouse_is_refused(version: str, state: str) -> None:
    """The pipeline was not measured on it."""
    assert services._version("there", version).state == state


@pytest.mark.parametrize(
    ("free", "state", "code"), [(10_000_000_000, "ok", 0), (1_500_000_001, "warning", 0), (1_000_000_000, "failed", 2)]
)
def test_the_disk_must_hold_the_snapshots(
    free: int, state: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of all networks at once, by upstream's limit where the source has told nothing."""
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    chosen = settings_of(monkeypatch, SOT_PATH=str(tmp_path), CLICKHOUSE_HOST="nowhere", WORK_PATH=str(tmp_path))
    (found,) = local.check_disk_space(examination(chosen))
    assert (found.state, found.exit_code) == (state, code)


@pytest.mark.parametrize(("kind", "state"), [("ext4", "ok"), ("", "ok"), ("overlay", "warning"), ("nfs4", "warning")])
def test_the_work_directory_should_be_on_a_disk(
    kind: str, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that is gone with its container, or that other hosts share, is told."""
    monkeypatch.setattr(local, "_file_system", lambda _: kind)
    chosen = settings_of(monkeypatch, SOT_PATH=str(tmp_path), CLICKHOUSE_HOST="nowhere", WORK_PATH=str(tmp_path / "w"))
    (found,) = local.check_work_directory(examination(chosen))
    assert found.state == state
    assert list(tmp_path.iterdir()) == []


def test_the_file_system_is_found() -> None:
    """That of the nearest mount above the directory."""
    assert local._file_system(Path("/proc/self")) in {"proc", ""}


def test_luigi_cfg_must_say_what_luigi_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that lets a failed run exit with 0 is told, setting by setting."""
    text = (ROOT / "luigi.cfg").read_text("utf-8").replace("task_failed = 30\n", "").replace("= 35", "= 0")
    text = text.replace("check_complete_on_run = true", "check-complete-on-run = false").replace(
        "loads = 2", "loads = 3"
    )
    (tmp_path / "luigi.cfg").write_text(text)
    monkeypatch.chdir(tmp_path)
    chosen = settings_of(monkeypatch, SOT_PATH=str(tmp_path), CLICKHOUSE_HOST="nowhere")
    (found,) = local.check_luigi_cfg(examination(chosen))
    assert found.state == "warning"
    assert "[retcode] task_failed is missing, expected 30" in found.text
    assert "[retcode] scheduling_error is 0, expected 35" in found.text
    assert "[worker] check_complete_on_run is false, expected true" in found.text
    assert "loads" not in found.text


def test_a_luigi_cfg_that_is_found_in_two_ways_is_named_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the working directory, and by LUIGI_CONFIG_PATH, as the quickstart has it."""
    path = Path(shutil.copy(ROOT / "luigi.cfg", tmp_path))
    monkeypatch.chdir(tmp_path)
    parser = type(luigi.configuration.get_config())
    monkeypatch.setattr(parser, "_config_paths", ["luigi.cfg", str(path)])
    chosen = settings_of(monkeypatch, SOT_PATH=str(tmp_path), CLICKHOUSE_HOST="nowhere")
    (found,) = local.check_luigi_cfg(examination(chosen))
    assert (found.state, found.text) == ("ok", str(path))


def test_every_setting_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its variable, as one would write it; what a network does differently, too."""
    variables: Mapping[str, str] = {
        "SOT_S3_BUCKET": "bucket",
        "CLICKHOUSE_HOST": "db",
        "CLICKHOUSE_PASSWORD": SECRET,
        "INGESTION_NETWORKS": "torus, bitcoin",
        "TORUS_CLICKHOUSE_HTTP_PORT": "8124",
    }
    shown: dict[str, Any] = doctor.shown_settings(settings_of(monkeypatch, **variables))
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    assert shown.keys() == known | {"TORUS_CLICKHOUSE_HTTP_PORT"}
    wanted = {**variables, "CLICKHOUSE_PASSWORD": doctor.MASK, "INGESTION_NETWORKS": "torus,bitcoin"}
    assert {name: shown[name] for name in wanted} == wanted
    assert (shown["SOT_S3_ANONYMOUS"], shown["SOT_PASSWORD"]) == ("false", "")
