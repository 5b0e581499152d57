"""Builds the image and runs the compose file, and says what of it is as it should be: scripts/containers

    python -m tests.support.containers docker|podman

With podman a copy of the compose file is run without what podman-compose 1.6 cannot do: secrets become files, what a
service depends on is started before it, and health checks are asked for, since nothing else runs them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import urllib3
import yaml

from tests.support import docker
from tests.support.clickhouse import CACHE, PACKAGE

ROOT = Path(__file__).parents[2]
PROJECT = "sot-ingest-containers"  #: not the operator's own, which may run on this host
TAGS = ("one", "two")  #: of the image, before and after an upgrade
PASSWORD, ADMINISTRATORS = 'p$a s&s#w"o`rd;=', 'a$ &"b'
SECONDS = 120.0
NETWORKS = 3
ENDED = "Command ended"  #: the scheduler's event
SERVICES = ("store", "clickhouse", "luigid", "seed", "grants", "scheduler", "api")  #: in the order in which they start

#: What the stand-ins are made of.
STAND_INS = (
    *(ROOT / "tests" / "support" / name for name in ("stand_ins.py", "clickhouse_host.py")),
    CACHE / "node_modules" / PACKAGE / "libchdb.so",
)


class ContainersError(Exception):
    """Something is not as it should be."""


def check(is_right: object, what: str, found: object = "") -> None:
    """Say that something is right. Raises ContainersError when it is not."""
    if not is_right:
        raise ContainersError(f"{what}: {found}")
    click.echo(f"   {what}")


def until(is_there: Callable[[], object], what: str) -> None:
    """Wait for something. Raises ContainersError when it does not come."""
    deadline = time.monotonic() + SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            raise ContainersError(f"not within {SECONDS:.0f} s: {what}")
        time.sleep(0.5)


@dataclass(frozen=True)
class Engine:
    """Docker or podman, and a directory with the compose file and ``.env`` that it runs."""

    program: str
    directory: Path

    @property
    def is_podman(self) -> bool:
        """Whether compose is podman's, with less than Docker's."""
        return self.program == "podman"

    def run(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine. Raises ContainersError when it ends with another code than this one."""
        return _run([self.program, *words], self.directory, code)

    def compose(self, *words: str, tag: str = TAGS[0]) -> str:
        """Run a command of compose, with the image of a tag; return its output."""
        command = ["podman-compose"] if self.is_podman else ["docker", "compose"]
        file = self.directory / ".env"
        lines = re.sub(r"(?m)^SOT_INGEST_VERSION=.*$", f"SOT_INGEST_VERSION={tag}", file.read_text("utf-8"))
        file.write_text(lines, "utf-8")
        return _run([*command, "--project-name", PROJECT, "--profile", "try", *words], self.directory).stdout

    def build(self, tag: str) -> None:
        """Build the image from the repository."""
        options = ["--file", "docker/Dockerfile", "--tag", f"sot-ingest:{tag}", "--build-arg", f"VERSION={tag}"]
        if self.is_podman:
            _run(
                [
                    "buildah",
                    "bud",
                    "--pull-never",
                    "--layers",
                    "--network",
                    "host",
                    "--format",
                    "docker",
                    *options,
                    ".",
                ],
                ROOT,
            )
        else:
            _run(["docker", "build", *options, "."], ROOT)

    def container(self, service: str) -> str:
        """Return the container of a service. Raises ContainersError when there is none, running or not."""
        labels = [f"label=com.docker.compose.{name}" for name in (f"project={PROJECT}", f"service={service}")]
        found = self.run("ps", "--all", "--quiet", "--filter", labels[0], "--filter", labels[1]).stdout.split()
        if len(found) != 1:
            raise ContainersError(f"{service} has {len(found)} containers")
        return found[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows about a service's container."""
        found: dict[str, Any] = json.loads(self.run("inspect", self.container(service)).stdout)[0]
        return found

    def inside(self, service: str, *command: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's container."""
        return self.run("exec", self.container(service), *command, code=code)

    def log(self, service: str) -> str:
        """Return what a service's container has written; nothing where there is none."""
        done = self.run("logs", f"{PROJECT}_{service}_1" if self.is_podman else f"{PROJECT}-{service}-1", code=None)
        return done.stdout + done.stderr

    def is_healthy(self, service: str) -> bool:
        """Tell whether a service's own health check says that it works."""
        if self.is_podman:
            return self.run("healthcheck", "run", self.container(service), code=None).returncode == 0
        return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")

    def start(self, *services: str, tag: str = TAGS[0]) -> None:
        """Start services, and wait until those that last are healthy and the others have ended well."""
        for service in services:
            ended = self.log(service).count(ENDED)
            self.compose("up", "--detach", "--no-deps", "--no-build", service, tag=tag)
            if service in {"seed", "grants"}:
                code = int(self.run("wait", self.container(service)).stdout)
                if code:
                    raise ContainersError(f"{service} ended with {code}: {self.log(service)[-2_000:]}")
            else:
                until(lambda service=service: self.is_healthy(service), f"{service} is healthy")  # type: ignore[misc]
            if service == "scheduler":
                until(lambda: self.log("scheduler").count(ENDED) == ended + len(commands()), "its commands have ended")  # noqa: B023


def _run(command: list[str], directory: Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if code is not None and done.returncode != code:
        said = f"{done.stdout[-2_000:]}{done.stderr[-2_000:]}"
        raise ContainersError(f"{shlex.join(command)} ended with {done.returncode}, not {code}: {said}")
    return done


def prepare(engine: Engine) -> None:
    """Copy docker/ as an operator has it, with passwords of all kinds of characters."""
    shutil.copytree(docker.DOCKER, engine.directory, dirs_exist_ok=True)
    text = (docker.DOCKER / ".env.example").read_text("utf-8")
    text = text.replace("'change-me'", f"'{PASSWORD}'").replace("'change-me-too'", f"'{ADMINISTRATORS}'")
    text += (
        f"SOT_INGEST_VERSION={TAGS[0]}\nSOT_INGEST_CLICKHOUSE_MEMORY=4g\nREPORT_PATH=/var/lib/sot-ingest/report.html\n"
    )
    (engine.directory / ".env").write_text(text, "utf-8")
    if engine.is_podman:
        _adapt(engine.directory)


def _adapt(directory: Path) -> None:
    """Take out of the compose file what podman-compose cannot do, and give the stand-ins what they need."""
    compose = yaml.safe_load((directory / "compose.yaml").read_text("utf-8"))
    del compose["x-service"], compose["x-settings"], compose["x-required"]
    values = docker.read_env_file(directory / ".env")
    for name, secret in compose["secrets"].items():
        (directory / name).write_text(values[secret["environment"]], "utf-8")
        (directory / name).chmod(0o444)
        compose["secrets"][name] = {"file": f"./{name}"}
    for service in compose["services"].values():
        service.pop("depends_on", None)
        service.pop("build", None)
        service["secrets"] = [each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])]
    clickhouse, grants = compose["services"]["clickhouse"], compose["services"]["grants"]
    del clickhouse["ulimits"]  # more than this host may have
    for service in (clickhouse, compose["services"]["store"]):
        paths = (*STAND_INS, directory / "grants.sql")
        service["volumes"] += [f"{path}:/stand-ins/{path.name}:ro" for path in paths]
    grants["command"].remove("--apply")  # the engine has nowhere to keep users: it is made with this one
    (directory / "compose.yaml").write_text(yaml.safe_dump(compose, sort_keys=False), "utf-8")


def keep_grants(engine: Engine) -> None:
    """Let the service grants print what it would apply: where nothing keeps users, they are made with that."""
    engine.start("grants")
    (engine.directory / "grants.sql").unlink()  # a link to what is written for one network
    (engine.directory / "grants.sql").write_text(engine.log("grants"), "utf-8")


def published(engine: Engine) -> list[tuple[str, ...]]:
    """Return what readers see: network, date and publication."""
    command = ["sot-ingest", "status", "--days", "2", "--json"]
    found = json.loads(engine.inside("scheduler", *command).stdout)
    names = ("network", "processing_date", "publication_id")
    return [tuple(each[name] for name in names) for each in found if each["publication_id"]]


def commands() -> list[list[str]]:
    """Return the commands of the crontab."""
    lines = [line.split(maxsplit=5) for line in (docker.DOCKER / "crontab").read_text("utf-8").splitlines()]
    return [shlex.split(line[5]) for line in lines if line and not line[0].startswith("#")]


def check_start(engine: Engine) -> None:
    """All services work, and the scheduler does its commands once."""
    engine.start(*SERVICES)
    check(True, "every service is healthy, seed and grants have ended well")
    codes = dict(re.findall(rf"{ENDED} .*command=\"?(sot-ingest \w+).*exit_code=(\d+)", engine.log("scheduler")))
    check(set(codes.values()) == {"0"}, "at its start the scheduler ran every command", codes)
    check(len(published(engine)) == NETWORKS, "a day of each network is published", published(engine))
    for command in commands():
        engine.inside("scheduler", *command)
    check(True, "the commands of the crontab run inside, and find nothing left to do")
    found = engine.inside("scheduler", "sot-ingest", "doctor").stdout
    check(found.endswith("all is well.\n"), "doctor finds that all is well", found)


def check_rights(engine: Engine) -> None:
    """Our containers may do little, and no password is in an environment."""
    for service in ("luigid", "scheduler", "api"):
        status = dict(
            line.split(":\t", 1) for line in engine.inside(service, "cat", "/proc/1/status").stdout.splitlines()
        )
        capabilities = {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        check(capabilities == {""}, f"{service} has no capability", status)
        check(status["NoNewPrivs"] == "1", f"{service} gets no new privileges")
        check(engine.inside(service, "id", "-u").stdout.strip() == "10001", f"{service} is an ordinary user")
        limit = engine.inspect(service)["HostConfig"]["Memory"]
        check(limit in {1 << 30, 2 << 30}, f"{service} has a limit of memory", limit)
        environment = engine.inside(service, "env").stdout
        secrets = [PASSWORD, ADMINISTRATORS, docker.env_example()["API_TOKEN"]]
        check(not [secret for secret in secrets if secret in environment], f"no secret is in {service}'s environment")
    check(engine.inside("luigid", "touch", "/x", code=None).returncode, "luigid's root cannot be written")
    who = "import pipeline.graph.context as c; print(c.get_context().warehouse('torus').query('SELECT currentUser()'))"
    found = engine.inside("scheduler", "python", "-c", who).stdout
    check("ingest" in found, "the pipeline is no administrator", found)
    denied = who.replace("SELECT currentUser()", "SELECT count() FROM system.users")
    said = engine.inside("scheduler", "python", "-c", denied, code=1).stderr
    check("Not enough privileges" in said, "what is not granted is refused", said)


def check_outside(engine: Engine) -> None:
    """What is published is reached from this host, and over no other of its addresses."""
    ports = {8123: "/ping", 8082: "/static/visualiser/index.html", 8080: "/healthz"}
    for port, path in ports.items():
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}{path}", retries=False, timeout=10)
        check(answer.status == 200, f"127.0.0.1:{port}{path} answers", answer.status)
    for service in (name for name in SERVICES if name not in {"seed", "grants"}):
        bindings = engine.inspect(service)["HostConfig"]["PortBindings"] or {}
        hosts = {each["HostIp"] for found in bindings.values() for each in found}
        check(hosts <= {"127.0.0.1"}, f"{service} is published on no other address", bindings)
    url = "http://127.0.0.1:8080/"
    login = {"Authorization": f"Bearer {docker.env_example()['API_TOKEN']}"}
    check(urllib3.request("GET", url, timeout=10).status == 401, "the service asks for its token")
    answer = urllib3.request("GET", url, headers=login, timeout=30)
    check(answer.status == 200 and b"torus" in answer.data, "with it, it shows the report", answer.status)
    page = engine.directory / "report.html"
    engine.run("cp", f"{engine.container('scheduler')}:/var/lib/sot-ingest/report.html", str(page))
    text = page.read_text("utf-8")
    check("<html" in text and "torus" in text, "the report is a page of what was ingested")


def check_ends(engine: Engine) -> None:
    """A container that is killed loses nothing; one that is stopped ends in order."""
    before = published(engine)
    rerun = ["sot-ingest", "rerun", "--date", before[0][1], "--network", "torus", "--yes"]
    command = [engine.program, "exec", engine.container("scheduler"), *rerun]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "Downloaded file" in line:
                break
        engine.run("kill", engine.container("scheduler"))
        running.stderr.read()
    engine.start("scheduler")
    engine.inside("scheduler", "sot-ingest", "run", "--date", before[0][1])
    engine.inside("scheduler", "sot-ingest", "verify", "--days", "2")
    after = published(engine)
    check({each[:2] for each in after} == {each[:2] for each in before}, "after a kill the next run goes on", after)
    started = time.monotonic()
    engine.run("stop", "--time", "60", engine.container("scheduler"))
    took = time.monotonic() - started
    check("Ended" in engine.log("scheduler").splitlines()[-1] and took < 20, f"a stop ends in order, in {took:.1f} s")


def check_upgrade(engine: Engine) -> None:
    """Another image, new containers, the same volumes: nothing is left to do."""
    engine.start("scheduler")
    before = published(engine)
    engine.build(TAGS[1])
    for service in ("api", "scheduler", "luigid", "clickhouse"):
        engine.run("rm", "--force", engine.container(service))
    engine.start("clickhouse", "luigid", "scheduler", "api", tag=TAGS[1])
    check(engine.inspect("scheduler")["Config"]["Image"].endswith(f":{TAGS[1]}"), "the scheduler is the new image")
    check(published(engine) == before, "an upgrade keeps what is published", published(engine))
    done = engine.inside("scheduler", "sot-ingest", "run").stderr
    check("Published snapshot" not in done and "exit_code=0" in done, "and a run has nothing to do", done)


def check_backup(engine: Engine) -> None:
    """The disk of the runbook's command takes a backup, as the administrator."""
    headers = {"X-ClickHouse-User": "admin", "X-ClickHouse-Key": ADMINISTRATORS}
    backup = b"BACKUP DATABASE torus TO Disk('backups', 'torus')"
    answer = urllib3.request("POST", "http://127.0.0.1:8123/", body=backup, headers=headers, timeout=60)
    check(b"BACKUP_CREATED" in answer.data, "the disk backups takes a backup", answer.data)
    check(engine.inside("clickhouse", "ls", "/backups/torus").stdout, "which is in the volume of that name")


@click.command()
@click.argument("program", type=click.Choice(["docker", "podman"]))
def main(program: str) -> None:
    """Build the image and run the compose file."""
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine(program, Path(scratch))
        prepare(engine)
        started = time.monotonic()
        try:
            click.echo("== building the image")
            engine.build(TAGS[0])
            labels = json.loads(engine.run("image", "inspect", f"sot-ingest:{TAGS[0]}").stdout)[0]
            labels = labels.get("Labels") or labels["Config"]["Labels"]
            if engine.is_podman:
                keep_grants(engine)
            check(labels.get("org.opencontainers.image.version") == TAGS[0], "the image says its version", labels)
            for step in (check_start, check_rights, check_outside, check_backup, check_ends, check_upgrade):
                click.echo(f"== {(step.__doc__ or '').partition('.')[0]}")
                step(engine)
        except ContainersError as error:
            click.echo(f"scripts/containers: {error}", err=True)
            for service in SERVICES:
                click.echo(f"== the end of {service}'s log\n{engine.log(service)[-3_000:]}", err=True)
            sys.exit(1)
        finally:
            if "KEEP" not in os.environ:
                engine.compose("down", "--volumes")
                engine.run("rmi", "--force", *(f"sot-ingest:{tag}" for tag in TAGS), code=None)
        click.echo(f"All of it is as it should be ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
