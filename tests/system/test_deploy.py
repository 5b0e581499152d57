"""docker/: the compose file, the image, the crontab and the units of systemd, looked at, and their commands run."""

from __future__ import annotations

import configparser
import getpass
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import urllib3
import yaml
from cronsim import CronSim
from moto.server import ThreadedMotoServer

from pipeline import cron
from pipeline.cli import serve
from pipeline.dates import yesterday
from pipeline.environment import parse_hosts
from pipeline.settings import Settings, ignored_variables, load_settings, secret_variables
from pipeline.snapshot import Snapshot
from pipeline.warehouse import PARQUET_SETTINGS, grants
from tests.conftest import own_databases
from tests.support import docker
from tests.support.clickhouse import OLDEST_MAJOR, ClickHouseServer, OwnClickHouse, free_ports
from tests.support.deployment import COMMANDS, SECONDS, Deployment, ServerReader
from tests.support.receiver import Receiver
from tests.system.test_luigid import tasks

pytestmark = pytest.mark.usefixtures("audited")

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text("utf-8")
NETWORKS = ("ethereum", "bitcoin", "torus")
OURS = ("luigid", "scheduler", "grants", "api", "seed")
ONCE = ("grants", "seed")  #: that do their work and end
SERVICES: dict[str, Any] = docker.compose()["services"]
RUN = "sot-ingest run --wait 1h"

# .env.example


def test_every_variable_is_in_the_example() -> None:
    """Set or shown; and none that nobody reads."""
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    known |= {f"{name}_FILE" for name in secret_variables()}
    known |= {f"TORUS_CLICKHOUSE_{name}" for name in ("HOST", "PORT", "HTTP_PORT", "DATABASE")}
    aws = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE"}
    others = {"LUIGI_CONFIG_PATH", "COMPOSE_PROFILES", "SOT_INGEST_VERSION"}
    others |= {"CLICKHOUSE_ADMIN_PASSWORD", "CLICKHOUSE_READER_PASSWORD", "SOT_INGEST_CLICKHOUSE_MEMORY"}
    assert docker.named_in_env_example() == known | aws | others


#: What needs quotes in a file of variables.
PASSWORD = 'p$a ${HOME} s&s#w"o`rd;= '


def read_by_shell(path: Path) -> dict[str, str]:
    """Return what a shell reads from a file of variables."""
    script = f"set -a; . {shlex.quote(str(path))}; env -0"
    done = subprocess.run(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)


def read_by_as_service(path: Path) -> dict[str, str]:
    """Return what as-service reads from a file of variables, as the user that runs the tests."""
    user = getpass.getuser()
    done = as_service("--env", str(path), "--user", user, "env", "-0")
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


@pytest.mark.parametrize("read", [docker.read_env_file, read_by_shell, read_by_as_service])
def test_a_file_of_variables_is_read_alike_by_all(read: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    """The example with a password that has all kinds of characters, in the quotes that the example asks for."""
    text = (docker.DOCKER / ".env.example").read_text("utf-8")
    path = tmp_path / "env"
    path.write_text(text.replace("'change-me'", f"'{PASSWORD}'"), "utf-8")
    expected = {**docker.env_example(), "CLICKHOUSE_PASSWORD": PASSWORD}
    assert len(expected) > 10
    found = read(path)
    assert {name: found.get(name) for name in expected} == expected


def test_the_example_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mistake or a warning; what is not in quotes needs none."""
    text = (docker.DOCKER / ".env.example").read_text("utf-8")
    assert re.findall(r"^#?[A-Z_]+=(?!')(?=.*[ \"'$&\\])(.*)", text, re.MULTILINE) == []
    for name, value in docker.env_example().items():
        monkeypatch.setenv(name, value)
    for name in ("CLICKHOUSE_ADMIN_PASSWORD", "CLICKHOUSE_READER_PASSWORD"):
        monkeypatch.setenv(name, "")  # as the compose file has it for the pipeline
    assert load_settings().networks == NETWORKS
    assert list(ignored_variables(load_settings())) == []


# The compose file


def test_nothing_is_published_beyond_this_host() -> None:
    """Every published port is bound to the loopback interface; the store and the scheduler publish none."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"clickhouse", "luigid", "api", "prometheus", "grafana"}
    assert [port for ports in published.values() for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_service_says_whether_it_works() -> None:
    """A health check of its own, or the image's for the scheduler, which runs the image's command."""
    lasting = {name: service for name, service in SERVICES.items() if name not in ONCE}
    assert {name for name, service in lasting.items() if "test" not in service.get("healthcheck", {})} == {"scheduler"}
    assert "command" not in SERVICES["scheduler"]
    assert "cron.heartbeat" in docker.image("HEALTHCHECK")
    assert "cron.heartbeat" in docker.image("CMD")
    assert {service["restart"] for service in lasting.values()} == {"unless-stopped"}


def test_containers_find_luigid() -> None:
    """By its service's name and port, which only the other containers and this host reach."""
    config = configparser.ConfigParser()
    config.read(docker.DOCKER / "luigi.cfg", "utf-8")
    assert {section: dict(config[section]) for section in config.sections()} == {
        "core": {"default_scheduler_url": "http://luigid:8082"}
    }
    command = SERVICES["luigid"]["command"]
    assert command[command.index("--port") + 1] == "8082"
    assert "docker/luigi.cfg docker/crontab /etc/sot-ingest/" in [rest for _, rest in docker.instructions()]
    assert docker.image_environment()["LUIGI_CONFIG_PATH"] == "/etc/sot-ingest/luigi.cfg"


def test_services_wait_until_those_that_they_need_work() -> None:
    """Not only until they were started; without the profile the scheduler needs no demo."""
    conditions = {name: service["condition"] for name, service in SERVICES["scheduler"]["depends_on"].items()}
    assert conditions == {
        "grants": "service_completed_successfully",
        "luigid": "service_healthy",
        "seed": "service_completed_successfully",
    }
    assert SERVICES["grants"]["depends_on"] == {"clickhouse": {"condition": "service_healthy"}}
    assert SERVICES["scheduler"]["depends_on"]["seed"]["required"] is False
    assert SERVICES["seed"]["depends_on"] == {"store": {"condition": "service_healthy"}}
    assert SERVICES["api"]["depends_on"] == {"grants": {"condition": "service_completed_successfully"}}
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    monitor = {name: ["monitor"] for name in ("prometheus", "node-exporter", "grafana")}
    assert profiles == {"store": ["try"], "seed": ["try"], **monitor}


def test_secrets_are_files() -> None:
    """No service has a password in its environment, though all of .env is given to them; without one nothing starts."""
    example = docker.env_example()
    declared = {name: secret["environment"] for name, secret in docker.compose()["secrets"].items()}
    assert declared == {name.lower(): name for name in declared.values()}
    for name in set(OURS) - {"luigid"}:
        environment = SERVICES[name]["environment"]
        assert {environment[variable] for variable in declared.values()} == {""}
        assert {secret for secret in secret_variables() if example.get(secret)} <= set(declared.values())
        files = {f"/run/secrets/{secret['source']}" for secret in SERVICES[name]["secrets"]}
        assert {value for variable, value in environment.items() if variable.endswith("_FILE")} <= files
        for secret in SERVICES[name]["secrets"]:
            assert (secret["uid"], SERVICES[name]["read_only"]) == (docker.image("USER").partition(":")[0], False)
    assert SERVICES["clickhouse"]["environment"]["CLICKHOUSE_PASSWORD_FILE"] == "/run/secrets/clickhouse_admin_password"
    for variable in declared.values():
        with pytest.raises(KeyError, match=f"set {variable}"):
            docker.compose({**example, variable: ""})


def test_the_pipeline_is_no_administrator() -> None:
    """It logs in as the user that the grants are for, and so does the service; whoever makes them is another."""
    users = [docker.env_example()["CLICKHOUSE_USER"], SERVICES["api"]["environment"]["CLICKHOUSE_USER"]]
    administrator = SERVICES["clickhouse"]["environment"]["CLICKHOUSE_USER"]
    environment, command = SERVICES["grants"]["environment"], SERVICES["grants"]["command"]
    assert environment["CLICKHOUSE_USER"] == administrator
    assert len({administrator, *users}) == 3
    assert command[:3] == ["python", "-m", grants.__name__]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    password = f"/run/secrets/{SERVICES['scheduler']['secrets'][0]['source']}"
    readers = SERVICES["api"]["environment"]["CLICKHOUSE_PASSWORD_FILE"]
    assert options == {
        "--user": users[0],
        "--password-file": password,
        "--reader": users[1],
        "--reader-password-file": readers,
    }
    grants.main.make_context("grants", [os.devnull if each.startswith("/run/") else each for each in command[3:]])
    assert "CLICKHOUSE_USER" not in SERVICES["scheduler"]["environment"]


def test_the_service_answers_outside_its_container() -> None:
    """It listens beyond the container's loopback, so with a token, on the port that is published and looked at."""
    api = SERVICES["api"]
    assert api["command"] == ["sot-ingest", "serve", "--host", "0.0.0.0"]  # noqa: S104
    assert api["environment"]["API_TOKEN_FILE"] == "/run/secrets/api_token"
    port = next(option.default for option in serve.command.params if option.name == "port")
    assert api["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"http://127.0.0.1:{port}/healthz" in api["healthcheck"]["test"][-1]


def test_every_service_has_a_limit_of_memory() -> None:
    """ClickHouse's has room for the largest load, and can be set."""
    assert [name for name, service in SERVICES.items() if not re.fullmatch(r"\d+g", service["mem_limit"])] == []
    assert int(SERVICES["clickhouse"]["mem_limit"][:-1]) * 10**9 > PARQUET_SETTINGS["max_memory_usage"]
    smaller = docker.compose({**docker.env_example(), "SOT_INGEST_CLICKHOUSE_MEMORY": "4g"})
    assert smaller["services"]["clickhouse"]["mem_limit"] == "4g"


def test_our_containers_may_do_little() -> None:
    """An ordinary user by number, without capabilities; what outlives them is in named volumes."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", docker.image("USER"))
    for name in OURS:
        service = SERVICES[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "user" not in service
        assert "privileged" not in service
    volumes = [volume.partition(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    named = {source for source, _, _ in volumes if not source.startswith("./")}
    assert named == set(docker.compose()["volumes"])
    files = {source: target for source, _, target in volumes if source not in named}
    assert [source for source in files if not (docker.DOCKER / source).is_file()] == []
    assert {target.rpartition(":")[2] for target in files.values()} == {"ro"}


def test_clickhouse_has_what_the_compose_file_adds(
    own_clickhouse: Callable[..., OwnClickHouse], tmp_path: Path
) -> None:
    """The disk of the runbook's lines takes a backup, and gives it back; every log of its own has an end."""
    text = (docker.DOCKER / "clickhouse.xml").read_text("utf-8")
    added = ET.fromstring(text)  # noqa: S314  # our own
    logs = {log.tag: log.findtext("ttl") for log in added if log.tag.endswith("_log") and "remove" not in log.attrib}
    assert set(logs.values()) == {"event_date + INTERVAL 14 DAY DELETE"}
    assert {"query_log", "trace_log", "text_log", "metric_log", "part_log"} <= logs.keys()

    disk = "".join(ET.tostring(each, "unicode") for each in added if each.tag in {"storage_configuration", "backups"})
    server = own_clickhouse(more_config=disk.replace("/backups/", f"{tmp_path}/backups/"))
    server.http("CREATE DATABASE torus ENGINE = Atomic")
    server.http("CREATE TABLE torus.a ENGINE = MergeTree ORDER BY n AS SELECT number AS n FROM numbers(7)")
    backup, restore = re.findall(r'--query "((?:BACKUP|RESTORE) [^"]*)"', RUNBOOK)
    server.http(backup)
    server.http("DROP DATABASE torus SYNC")
    server.http(restore)
    assert server.http("SELECT count() FROM torus.a") == "7\n"


def test_the_cluster_is_two_servers_alike_and_a_keeper() -> None:
    """The second server differs from the first in its name, its data and its ports; both find the Keeper, and each
    other, and the pipeline both of them.
    """
    cluster = docker.compose(name="compose.cluster.yaml")
    services = cluster["services"]
    first, second = SERVICES["clickhouse"], services["clickhouse-2"]
    own = {"hostname", "configs", "depends_on", "environment", "ports", "volumes"}
    assert {**second, **dict.fromkeys(own)} == {**first, **dict.fromkeys(own)}
    assert second["environment"] == first["environment"] | {"REPLICA": "clickhouse-2"}
    assert second["volumes"] == ["clickhouse-2:/var/lib/clickhouse", *first["volumes"][1:]]
    assert not {each.rpartition(":")[0] for each in second["ports"]} & {
        each.rpartition(":")[0] for each in first["ports"]
    }
    assert services["clickhouse"]["configs"] == second["configs"]
    keeper, replica = (ET.fromstring(cluster["configs"][each]["content"]) for each in ("keeper", "replica"))  # noqa: S314  # our own file
    assert replica.findtext("zookeeper/node/host") == "keeper"
    assert replica.findtext("zookeeper/node/port") == keeper.findtext("keeper_server/tcp_port")
    assert replica.findtext("default_replica_path") == Settings.model_fields["clickhouse_replica_path"].default
    for name in ("grants", "scheduler"):
        hosts = parse_hosts(services[name]["environment"]["CLICKHOUSE_HOST"])
        assert [host.name for host in hosts] == [services[each]["hostname"] for each in ("clickhouse", "clickhouse-2")]
    assert services["keeper"]["image"].rpartition(":")[2] == first["image"].rpartition(":")[2]


def test_compose_takes_what_the_runbook_adds() -> None:
    """The secret of the other source, merged as compose merges files, is a valid service of ours."""
    (block,) = re.findall(r"^  ```yaml\n(.*?)^  ```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    added = yaml.safe_load(block)
    (secret,) = added["services"]["scheduler"]["secrets"]
    environment = added["services"]["scheduler"]["environment"]
    assert environment == {"SOT_PASSWORD": "", "SOT_PASSWORD_FILE": f"/run/secrets/{secret['source']}"}
    assert set(environment) - {"SOT_PASSWORD_FILE"} <= set(secret_variables())
    assert secret | {"source": ""} == SERVICES["scheduler"]["secrets"][0] | {"source": ""}
    assert added["secrets"] == {secret["source"]: {"environment": "SOT_PASSWORD"}}


def test_containers_can_all_have_a_root_that_is_only_read() -> None:
    """With passwords in files, which the runbook makes: no service of ours is left out, and no secret."""
    added = docker.compose(name="compose.read-only.yaml")
    closed = {name for name in OURS if {**SERVICES[name], **added["services"].get(name, {})}["read_only"]}
    assert closed == set(OURS)
    assert set(added["services"]) == {name for name in OURS if not SERVICES[name]["read_only"]}
    assert added["secrets"].keys() == docker.compose()["secrets"].keys()
    ((directory, names),) = re.findall(r"--mode 711 (\S+) .*\n  for name in (.*); do", RUNBOOK)
    assert {secret["file"] for secret in added["secrets"].values()} == {f"{directory}/{each}" for each in names.split()}


def test_images_are_pinned() -> None:
    """By a full version, ours by what builds it; ClickHouse is one that the pipeline was measured on."""
    foreign = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}
    assert [image for image in foreign.values() if not re.search(r":v?\d+\.\d+\.\d+", image)] == []
    assert int(re.findall(r":(\d+)\.", foreign["clickhouse"])[0]) >= OLDEST_MAJOR
    bases = [rest.split()[0] for name, rest in docker.instructions() if name == "FROM"]
    assert len(bases) == 2
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', docker.image("LABEL")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (labels["title"], labels["licenses"]) == (project["name"], project["license"])
    assert (labels["version"], labels["revision"]) == ("$VERSION", "$REVISION")
    assert [base for base in bases if not re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)] == []


def test_the_image_holds_what_the_lock_says() -> None:
    """Every package by its digest; the files that it copies are there, and nothing is fetched from elsewhere."""
    installs = [rest for name, rest in docker.instructions() if name == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert "--require-hashes --requirement requirements/production.lock" in installs[0]
    assert "--no-build-isolation --no-deps" in installs[1]
    for rest in (rest for name, rest in docker.instructions() if name == "COPY" and not rest.startswith("--from")):
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert "curl" not in "".join(rest for _, rest in docker.instructions())
    assert {name for name, _ in docker.instructions()}.isdisjoint({"ADD"})


# The times


def times(schedule: str) -> list[datetime]:
    """Return a schedule's times of a week."""
    start = datetime(2026, 3, 23, tzinfo=UTC)
    found: list[datetime] = []
    for moment in CronSim(schedule, start - timedelta(seconds=1)):
        if moment >= start + timedelta(days=7):
            return found
        found.append(moment)
    return found


def crontab() -> list[cron.Line]:
    """Return the lines of docker/crontab."""
    return cron.parse((docker.DOCKER / "crontab").read_text("utf-8"))


def test_the_crontab_keeps_the_schedule() -> None:
    """All networks twice and the check after them, every day; the collection on Sundays."""
    daily = [line for line in crontab() if line.command[1] != "gc"]
    (weekly,) = [line for line in crontab() if line.command[1] == "gc"]
    found = {f"{moment:%H:%M}": shlex.join(line.command) for line in daily for moment in times(line.schedule)}
    assert found == {"01:00": RUN, "03:00": RUN, "04:30": "sot-ingest check --max-age 26h"}
    assert sorted(len(times(line.schedule)) for line in daily) == [7, 14]
    assert [f"{moment:%a %H:%M}" for moment in times(weekly.schedule)] == ["Sun 05:00"]
    assert weekly.command == ("sot-ingest", "gc", "--yes")


def command_of(service: str) -> str:
    """Return a service's command without the directory of its program."""
    return docker.unit(service).one("Service", "ExecStart").removeprefix("/opt/sot-ingest/bin/")


def test_the_timers_say_the_same_as_the_crontab() -> None:
    """The same commands at the same times, in UTC; a host that was off makes up for what it missed.

    The timer of a run is one for each network.
    """
    found = set()
    for name in docker.unit_names("timer"):
        timer = docker.unit(name)
        assert timer.one("Timer", "Persistent") == "true"
        assert timer.one("Install", "WantedBy") == "timers.target"
        for expression in timer.all("Timer", "OnCalendar"):
            day, hour, minute = re.fullmatch(r"(?:(Sun) )?\*-\*-\* (\d\d):(\d\d):00 UTC", expression).groups()  # type: ignore[union-attr]
            command = command_of(name.replace(".timer", ".service")).replace("--network %i ", "")
            found.add((f"{day or 'daily'} {hour}:{minute}", command))
    assert found == {
        (f"{moment:%a %H:%M}" if line.schedule.endswith("0") else f"daily {moment:%H:%M}", shlex.join(line.command))
        for line in crontab()
        for moment in times(line.schedule)
    }


def test_every_service_has_a_timer_and_few_rights() -> None:
    """All but luigid, which is bound to the loopback interface and started with the host, and what failures start."""
    services = docker.unit_names("service")
    without = [name for name in services if name.replace(".service", ".timer") not in docker.unit_names("timer")]
    assert without == ["sot-ingest-failure@.service", "sot-ingest-luigid.service", "sot-ingest-serve.service"]
    assert "--address 127.0.0.1 " in command_of(without[1])
    assert command_of(without[2]) == "sot-ingest serve"  # which listens there, too
    for name in services:
        service = docker.unit(name)
        failure = [] if name in without[:1] else ["sot-ingest-failure@%n.service"]
        assert service.all("Unit", "OnFailure") == failure
        assert service.one("Service", "User") == "sot-ingest"
        assert service.all("Service", "EnvironmentFile")[0] == "/etc/sot-ingest/env"
        assert service.one("Service", "NoNewPrivileges") == "yes"
        assert service.one("Service", "ProtectSystem") == "strict"
        assert service.one("Service", "CapabilityBoundingSet") == ""
        assert service.one("Service", "StateDirectory") == "sot-ingest"


def test_the_unit_of_the_service_may_do_less_and_logs_in_as_another() -> None:
    """It writes nowhere; its drop-in is read after the one for all, so that a variable of its file counts."""
    service = docker.unit("sot-ingest-serve.service")
    assert service.one("Service", "ReadOnlyPaths") == service.one("Service", "WorkingDirectory")
    assert service.all("Service", "EnvironmentFile") == ["/etc/sot-ingest/env", "-/etc/sot-ingest/serve"]
    (own,) = (docker.UNITS / "sot-ingest-serve.service.d").iterdir()
    assert own.name > docker.COMMON.name
    assert service.one("Service", "MemoryMax").lower() == SERVICES["api"]["mem_limit"]
    assert int(service.one("Service", "TasksMax")) == SERVICES["api"]["pids_limit"]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Where it is installed it finds nothing to say about them, nor about the runbook's drop-in.

    What all services have in common is read.
    """
    if not shutil.which("systemd-analyze"):
        return
    units = tmp_path / "units"
    shutil.copytree(docker.UNITS, units)
    for path in units.glob("*.service"):
        path.write_text(path.read_text().replace("/opt/sot-ingest/bin", str(COMMANDS)))
    (place,) = re.findall(r"`/etc/systemd/system/(\S+\.conf)`", RUNBOOK)
    (drop_in,) = re.findall(r"^```ini\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    (units / place).write_text(drop_in)

    def said() -> str:
        own = [path.with_name(path.name.replace("@.", "@torus.")) for path in units.iterdir() if path.is_file()]
        command = ["systemd-analyze", "verify", *map(str, own)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert said() == ""
    common = units / docker.COMMON.relative_to(docker.UNITS)
    common.write_text(common.read_text() + "NoSuchKey=1\n")
    assert "NoSuchKey" in said()


# The commands


@dataclass(frozen=True)
class Host:
    """A host with the parts that .env.example names at addresses of its own."""

    deployment: Deployment  #: to read the warehouse
    directory: Path
    luigid_port: int
    container: dict[str, str]  #: the environment of the scheduler's container
    units: dict[str, str]  #: the environment of systemd's services

    def start(self, command: list[str], environment: Mapping[str, str], log: str) -> subprocess.Popen[bytes]:
        """Start a command with nothing but this environment; its output goes to a file."""
        base = {"PATH": f"{COMMANDS}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(self.directory)}
        with (self.directory / log).open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env={**base, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def run(self, command: list[str], environment: Mapping[str, str], log: str) -> str:
        """Run a command to its end and return its output; it must exit with 0."""
        process = self.start(command, environment, log)
        code = process.wait(SECONDS)
        output = (self.directory / log).read_text("utf-8")
        assert code == 0, output
        return output

    def luigid(self, command: str, environment: Mapping[str, str], state: str) -> subprocess.Popen[bytes]:
        """Start luigid as a command line says, at this host's address, and wait as compose does."""
        words = shlex.split(command)
        words[words.index("--address") + 1] = "127.0.0.1"
        words[words.index("--port") + 1] = str(self.luigid_port)
        words[words.index("--state-path") + 1] = str(self.directory / state)
        process = self.start(words, environment, f"{state}.log")
        _, *check = [word.replace("8082", str(self.luigid_port)) for word in SERVICES["luigid"]["healthcheck"]["test"]]
        deadline = time.monotonic() + SECONDS
        while subprocess.run(check, env={"PATH": str(COMMANDS)}, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
            assert process.poll() is None, (self.directory / f"{state}.log").read_text()
        return process


def replaced(environment: dict[str, str], values: dict[str, str]) -> dict[str, str]:
    """Return an environment with other values for addresses, passwords and paths; those that it has, and no more."""
    return {**environment, **{name: value for name, value in values.items() if environment.get(name)}}


@pytest.fixture(scope="module")
def host(clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """ClickHouse, an S3 API and the files that the image and the operator put into place."""
    directory = tmp_path_factory.mktemp("host")
    (port,) = free_ports(1)
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    shutil.copy(ROOT / "luigi.cfg", directory)  # as /etc/luigi/luigi.cfg in the image, which luigi looks for, too
    address = (docker.DOCKER / "luigi.cfg").read_text().replace("http://luigid:8082", f"http://127.0.0.1:{port}")
    (directory / "address.cfg").write_text(address)
    (directory / "password").write_text(f"{clickhouse.password}\n")
    values = {
        "SOT_S3_ENDPOINT": "http://{}:{}".format(*s3.get_host_and_port()),
        "CLICKHOUSE_HOST": clickhouse.host,
        "CLICKHOUSE_USER": clickhouse.user,
        "CLICKHOUSE_PASSWORD": clickhouse.password,
        "CLICKHOUSE_PASSWORD_FILE": str(directory / "password"),
        "WORK_PATH": str(directory / "work"),
        "LUIGI_CONFIG_PATH": str(directory / "address.cfg"),
    }
    container = {**docker.image_environment(), **docker.env_example(), **SERVICES["scheduler"]["environment"]}
    with own_databases(clickhouse) as prefix:
        reader = ServerReader(clickhouse, prefix)
        places = {name: value for name, value in reader.environment.items() if "PORT" in name or "DATABASE" in name}
        yield Host(
            Deployment({}, reader, directory),
            directory,
            port,
            {**replaced(container, values), **places},
            {**replaced(docker.env_example(), values), **places},
        )
    s3.stop()


def test_the_commands_ingest_a_day_and_find_nothing_to_do_the_second_time(host: Host) -> None:
    """In a container seed and the image's command, which runs the crontab; then every unit, on the same parts."""
    host.run(SERVICES["seed"]["command"], host.container, "seed.log")
    luigid = host.luigid(shlex.join(SERVICES["luigid"]["command"]), docker.image_environment(), "container")
    first = crontab_run(host)
    assert tasks(host.luigid_port, "DONE").count("PublishSnapshot") == len(NETWORKS)
    luigid.terminate()
    luigid.wait(SECONDS)
    ended = re.findall(r'Command ended  command="([^"]*)" exit_code=(\d+)', first)
    assert ended == [(command, "0") for command in dict.fromkeys(shlex.join(line.command) for line in crontab())], first
    for snapshot in snapshots():
        assert first.count(f"Published snapshot  network={snapshot.network}") == 1, first
        assert len(host.deployment.publications(snapshot)) == 1
    assert [path.name for path in (host.directory / "work").rglob("*.parquet")] == []

    before = {snapshot: host.deployment.written(snapshot.network) for snapshot in snapshots()}
    luigid = host.luigid(
        shlex.join(["luigid", *shlex.split(command_of("sot-ingest-luigid.service"))[1:]]), host.units, "unit"
    )
    for name in unit_instances():
        program, *arguments = shlex.split(command_line(name))
        assert Path(program).parent == Path("/opt/sot-ingest/bin")
        second = host.run([Path(program).name, *arguments], host.units, f"{name}.log")
        assert "step=" not in second
    luigid.terminate()
    luigid.wait(SECONDS)
    assert {snapshot: host.deployment.written(snapshot.network) for snapshot in snapshots()} == before
    logs = "".join(path.read_text("utf-8") for path in host.directory.glob("*.log"))
    assert host.deployment.reader.server.password not in logs  # type: ignore[attr-defined]


def test_the_unit_of_the_service_serves(host: Host) -> None:
    """Its command answers about the warehouse of its environment, and TERM ends it well."""
    program, *arguments = shlex.split(command_line("sot-ingest-serve.service"))
    own = {**host.units, "LOG_FORMAT": "json"}
    process = host.start([Path(program).name, *arguments, "--port", "0"], own, "serve.log")
    log, deadline = host.directory / "serve.log", time.monotonic() + SECONDS
    while not (found := re.search(r'"url": "(\S+)/"', log.read_text("utf-8"))):
        assert process.poll() is None, log.read_text("utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    login = {"Authorization": f"Bearer {host.units['API_TOKEN']}"}
    answer = urllib3.request("GET", f"{found[1]}/freshness", headers=login, timeout=SECONDS)
    process.terminate()
    assert {each["network"] for each in answer.json()["networks"]} == set(NETWORKS)
    assert process.wait(SECONDS) == 0


def unit_instances() -> list[str]:
    """Return the services that timers start, as the runbook enables the timers: those of a run for each network."""
    (enabled, *more) = [line for line in RUNBOOK.splitlines() if line.startswith("systemctl enable")]
    timers = [word for line in (enabled, *more) for word in line.split() if word.endswith(".timer")]
    assert [name for name in timers if "@" in name] == [f"sot-ingest-run@{network}.timer" for network in NETWORKS]
    assert {re.sub("@.*", "@.timer", name) for name in timers} == set(docker.unit_names("timer"))
    return [name.replace(".timer", ".service") for name in timers]


def command_line(service: str) -> str:
    """Return the command of a service, or of an instance of a template."""
    name, _, instance = service.removesuffix(".service").partition("@")
    template = f"{name}@.service" if instance else service
    return docker.unit(template).one("Service", "ExecStart").replace("%i", instance)


def snapshots() -> list[Snapshot]:
    """Return the default date's snapshots."""
    return [Snapshot(network, yesterday(), 195) for network in NETWORKS]


def crontab_run(host: Host) -> str:
    """Run the image's command, as when the container starts, until every command has ended; return the log.

    The image's health check passes meanwhile, and fails while the heartbeat is missing or old.
    """
    heartbeat = host.directory / "heartbeat"
    places = {"/etc/sot-ingest/crontab": str(docker.DOCKER / "crontab")}
    places["/tmp/cron.heartbeat"] = str(heartbeat)  # noqa: S108  # the container's own

    def here(words: str) -> list[str]:
        for place, path in places.items():
            words = words.replace(place, path)
        return list(map(str, yaml.safe_load(words)))

    check = here(docker.image("HEALTHCHECK").partition("CMD ")[2])
    assert subprocess.run(check, check=False).returncode == 1
    heartbeat.touch()
    os.utime(heartbeat, (time.time() - 300,) * 2)
    assert subprocess.run(check, check=False).returncode == 1
    process = host.start(here(docker.image("CMD")), host.container, "cron.log")
    log, commands = host.directory / "cron.log", {line.command for line in crontab()}
    deadline = time.monotonic() + SECONDS
    while log.read_text().count("Command ended") < len(commands):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    assert subprocess.run(check, check=False).returncode == 0
    process.terminate()
    assert process.wait(SECONDS) == 0
    return log.read_text()


# A host without containers


@dataclass(frozen=True)
class Installed:
    """What the runbook's commands put on a host, under a directory of the test's own."""

    host: Host
    root: Path

    def here(self, text: str) -> str:
        """Return a line of docs/ with the host's own directories below :attr:`root`."""
        return re.sub(r"(?<![\w.])/(opt|etc|var)/", rf"{self.root}/\1/", text)

    def cron(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run the command of a crontab as cron does; what it prints would be a mail."""
        command = line.split(maxsplit=5)[5]
        home = self.root / "var/lib/sot-ingest"
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        own = self.here(command).replace(
            "as-service ", f"as-service --env {self.root}/etc/sot-ingest/env --user {user} "
        )
        variables = {"HOME": str(home), "LOGNAME": user, "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        assert "%" not in command  # which cron takes for the end of a line
        return subprocess.run(
            ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), "/bin/sh", "-c", own],
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def write_environment(self, **changes: str) -> None:
        """Edit /etc/sot-ingest/env."""
        values = {**self.host.units, "LUIGI_CONFIG_PATH": f"{self.root}/etc/sot-ingest/luigi.cfg", **changes}
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        (self.root / "etc/sot-ingest/env").write_text(text)


@pytest.fixture
def installed(host: Host, tmp_path: Path) -> Installed:
    """The files of the runbook's ``install`` commands, the package's commands, and the parts of ``host``."""
    made = Installed(host, tmp_path / "root")
    programs = tmp_path / "root/opt/sot-ingest/bin"
    programs.mkdir(parents=True)
    for name in ("sot-ingest", "luigi", "luigid"):
        (programs / name).symlink_to(COMMANDS / name)
    (tmp_path / "root/var/lib/sot-ingest").mkdir(parents=True)
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()
    for line in RUNBOOK.splitlines():
        if line.startswith("install "):
            command = made.here(line).replace("--group sot-ingest", f"--group {group}")
            subprocess.run(shlex.split(command), cwd=ROOT, check=True)
    address = (
        (docker.DOCKER / "luigi.cfg").read_text().replace("http://luigid:8082", f"http://127.0.0.1:{host.luigid_port}")
    )
    (tmp_path / "root/etc/sot-ingest/luigi.cfg").write_text(address)
    made.write_environment()
    return made


def cron_lines() -> list[str]:
    """Return the lines that the runbook gives to cron."""
    found = re.findall(r"^```crontab\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    return [line for block in found for line in block.splitlines() if not line.startswith("MAILTO")]


def test_the_lines_for_cron_run_as_cron_runs_them(installed: Installed) -> None:
    """With cron's few variables, by /bin/sh, at home: each ends with 0, prints nothing, and leaves its log in a file.

    When its work fails, and when its configuration is wrong, it prints why and where the log is, and no INFO line.
    """
    lines = cron_lines()
    assert [line.split("as-service --log ")[1].split()[1] for line in lines] == [*["sot-ingest"] * 3, "luigi"]
    installed.host.run(SERVICES["seed"]["command"], installed.host.container, "seed-cron.log")
    luigid = installed.host.luigid(shlex.join(SERVICES["luigid"]["command"]), docker.image_environment(), "cron")
    done = {line: installed.cron(line) for line in lines}
    assert {line: (each.returncode, each.stdout, each.stderr) for line, each in done.items()} == dict.fromkeys(
        lines, (0, "", "")
    )
    logs = installed.root / "var/lib/sot-ingest/log"
    assert {path.name for path in logs.iterdir()} == {"run.log", "check.log", "gc.log"}
    assert "Run ended: done, or nothing to do" in (logs / "run.log").read_text()

    size = (logs / "run.log").stat().st_size
    installed.write_environment(SOT_S3_BUCKET="no-such-bucket")
    for line in (lines[0], lines[3]):
        failed = installed.cron(line)
        assert failed.returncode == 35
        assert " ERROR " in failed.stdout
        assert " INFO " not in failed.stdout
    assert (logs / "run.log").stat().st_size > size
    installed.write_environment(SOT_S3_BUCKET="")
    for line in lines:
        wrong = installed.cron(line)
        assert wrong.returncode == 2
        assert "SOT_S3_BUCKET or SOT_PATH or SOT_HOST: exactly one source must be configured" in wrong.stdout
        assert f"{logs}/" in wrong.stdout.splitlines()[-1]
    luigid.terminate()
    luigid.wait(SECONDS)


def as_service(*words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run docker/as-service."""
    return subprocess.run(
        [str(docker.DOCKER / "as-service"), *words],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_as_the_service_has_its_environment_and_no_other(tmp_path: Path) -> None:
    """Values as they stand there, spaces and dollars too; what the caller's shell exports is gone."""
    file = tmp_path / "env"
    file.write_text("# a comment\nCLICKHOUSE_PASSWORD=a b$HOME'c\n\nEMPTY=\nLAST=1")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    done = as_service("--env", str(file), "--user", user, "env", "-0", environment={"SOT_PATH": "/elsewhere"})
    found = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    assert (found["CLICKHOUSE_PASSWORD"], found["EMPTY"], found["LAST"]) == ("a b$HOME'c", "", "1")
    assert "SOT_PATH" not in found
    assert found["PATH"].split(":")[0] == str(docker.DOCKER)


def test_root_becomes_the_user_of_the_service(tmp_path: Path) -> None:
    """Whoever else asks stays who he is: he needs to be able to read the environment file."""
    file = tmp_path / "env"
    file.write_text("A=1\n")
    own = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
    done = as_service("--env", str(file), "--user", "nobody", "id", "-un")
    assert (done.returncode, done.stdout) == (0, "nobody\n" if os.getuid() == 0 else own), done.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "no command; expected for example: as-service sot-ingest status"),
        (("--log",), "--log: expected a value"),
        (("--quiet", "sot-ingest", "status"), "unknown option --quiet; expected --env, --user or --log"),
        (("--env", "/nowhere", "id"), "/nowhere: cannot be read; be root or the service's user"),
    ],
)
def test_a_wrong_command_line_of_as_service_is_refused(words: tuple[str, ...], problem: str) -> None:
    """Exit 2, one line that says what was expected."""
    done = as_service(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"as-service: {problem}")


def test_what_as_service_logs_gets_its_signals(tmp_path: Path) -> None:
    """TERM reaches the command, which ends its work; the exit code is the command's, and its last words are logged."""
    (tmp_path / "env").touch()
    os.mkfifo(tmp_path / "begun")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    words = ["--env", str(tmp_path / "env"), "--user", user, "--log", str(tmp_path / "log")]
    script = "trap 'sleep 0.2; echo ended; exit 143' TERM; echo >begun; sleep 60 & wait"
    started = subprocess.Popen(
        [str(docker.DOCKER / "as-service"), *words, "bash", "-c", f"cd {shlex.quote(str(tmp_path))}; {script}"],
        stdout=subprocess.DEVNULL,
    )
    (tmp_path / "begun").read_text("utf-8")  # waits for who writes
    started.terminate()
    assert started.wait(SECONDS) == 143
    assert (tmp_path / "log").read_text("utf-8") == "ended\n"


@pytest.mark.parametrize(("code", "is_silent"), [(0, True), (10, True), (2, False), (30, False), (143, False)])
def test_a_mail_comes_when_a_command_failed_and_only_then(tmp_path: Path, code: int, is_silent: bool) -> None:
    """The exit code is the command's; of a failure what is no INFO line is printed, in both formats of the log."""
    (tmp_path / "env").write_text("")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "2025-08-02T01:00:00.000Z INFO    Loaded table  rows=1",
        "2025-08-02T01:00:00.000Z ERROR   Step failed: INFO is a word",
        '{"time": "2025-08-02T01:00:00+00:00", "level": "INFO", "message": "Loaded table"}',
        '{"time": "2025-08-02T01:00:00+00:00", "level": "ERROR", "message": "Step failed"}',
        "Traceback",
    ]
    script = f"printf '%s\\n' {shlex.join(lines)}; exit {code}"
    log = tmp_path / "logs" / "run.log"
    done = as_service("--env", str(tmp_path / "env"), "--user", user, "--log", str(log), "sh", "-c", script)
    assert done.returncode == code
    shown = done.stdout.splitlines()
    assert shown[:-1] == ([] if is_silent else [lines[1], lines[3], lines[4]])
    assert [str(log) in line for line in shown[-1:]] == ([] if is_silent else [True])
    assert log.read_text().splitlines() == lines


# Failures


def test_a_unit_that_failed_is_told_once(host: Host) -> None:
    """OnFailure sends a message of a run that was killed or not started, and none where the run has sent its own."""
    failure = docker.unit("sot-ingest-failure@.service")
    _, _, script = shlex.split(failure.one("Service", "ExecCondition").replace("$$", "$"))
    ways = {
        "sot-ingest-run@torus.service": {
            "20": 1,
            "25": 1,
            "30": 1,
            "35": 1,
            "40": 1,
            "143": 1,
            "2": 0,
            "KILL": 0,
            "1": 0,
        },
        "sot-ingest-check.service": {"3": 1, "35": 1, "2": 0, "KILL": 0, "1": 0},
        "sot-ingest-gc.service": {"2": 0, "30": 0, "35": 0},
    }
    for name, codes in ways.items():
        for status, expected in codes.items():
            variables = {"MONITOR_UNIT": name, "MONITOR_EXIT_STATUS": status}
            assert subprocess.run(["/bin/sh", "-c", script], env=variables, check=False).returncode == expected, status
    program, *arguments = shlex.split(command_line("sot-ingest-failure@sot-ingest-run@torus.service.service"))
    with Receiver().running() as receiver:
        broken = {"NOTIFY_URLS": receiver.environment["NOTIFY_URLS"], "INGESTION_NETWORKS": "No Network"}
        host.run([Path(program).name, *arguments], broken, "notify.log")
    assert [message["title"] for message in receiver.messages] == [
        "sot-ingest-run@torus.service failed on %H: see journalctl --unit sot-ingest-run@torus.service"
    ]
