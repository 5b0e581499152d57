"""Docker or podman with a copy of the compose file, for scripts/containers.

With podman the copy is run without what podman-compose 1.6 cannot do: secrets become files, what a service depends on
is started before it, and health checks are asked for, since nothing else runs them. Stand-ins take the place of the
images that are not ours: their programs are mounted into the image that ours is made from.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moto
import yaml

from tests.support import docker
from tests.support.clickhouse import CACHE, PACKAGE

SUPPORT = Path(__file__).parent
PROJECT = "sot-ingest-containers"  #: not the operator's own, which may run on this host
TAGS = ("one", "two")  #: of the image, before and after an upgrade
PASSWORD, ADMINISTRATORS = 'p$a s&s#w"o`rd;=', 'a$ &"b'
SECONDS = 120.0
ENDED = "Command ended"  #: the scheduler's event
#: In the order in which they start.
SERVICES = ("store", "clickhouse", "luigid", "seed", "grants", "scheduler", "api", "prometheus", "node-exporter")
OURS = ("luigid", "seed", "grants", "scheduler", "api")
ONCE = ("seed", "grants")  #: that do their work and end
ONLY_WITH_DOCKER = ("grafana",)  #: for which nothing can stand in

#: What starts a stand-in in the place of a service's image.
PYTHON = ["env", "PYTHONPATH=/stand-ins/site-packages", "python", "/stand-ins/stand_ins.py"]
ENTRYPOINTS = {
    "clickhouse": PYTHON,
    "store": PYTHON,
    "prometheus": [
        "/stand-ins/prometheus",
        "--config.file=/etc/prometheus/prometheus.yml",
        "--storage.tsdb.path=/prometheus",
    ],
    "node-exporter": ["/stand-ins/prometheus-node-exporter"],
}
#: What stand-ins are made of.
MOUNTED = {
    "stand_ins.py": SUPPORT / "stand_ins.py",
    "clickhouse_host.py": SUPPORT / "clickhouse_host.py",
    "libchdb.so": CACHE / "node_modules" / PACKAGE / "libchdb.so",
    "site-packages": Path(moto.__file__).parents[1],
    "prometheus": CACHE.parent / "prometheus" / "prometheus",
    "prometheus-node-exporter": CACHE.parent / "prometheus-node-exporter" / "prometheus-node-exporter",
}


class ContainersError(Exception):
    """Something is not as it should be."""


def until(is_there: Callable[[], object], what: str, found: Callable[[], object] = str) -> None:
    """Wait for something. Raises ContainersError, with what is found instead, when it does not come."""
    deadline = time.monotonic() + SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            raise ContainersError(f"not within {SECONDS:.0f} s: {what} {found()}")
        time.sleep(0.1)


def run(command: list[str], directory: Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command. Raises ContainersError when it ends with another code than this one."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if code is not None and done.returncode != code:
        said = f"{done.stdout[-2_000:]}{done.stderr[-2_000:]}"
        raise ContainersError(f"{shlex.join(command)} ended with {done.returncode}, not {code}: {said}")
    return done


@dataclass(frozen=True)
class Engine:
    """Docker or podman, and a directory with the compose file and ``.env`` that it runs."""

    program: str
    directory: Path

    @property
    def is_podman(self) -> bool:
        """Whether compose is podman's, with less than Docker's."""
        return self.program == "podman"

    @property
    def services(self) -> tuple[str, ...]:
        """All services that can be started, in the order in which they are."""
        return SERVICES if self.is_podman else (*SERVICES, *ONLY_WITH_DOCKER)

    @property
    def lasting(self) -> tuple[str, ...]:
        """The services that run until they are stopped."""
        return tuple(service for service in self.services if service not in ONCE)

    def run(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine. Raises ContainersError when it ends with another code than this one."""
        return run([self.program, *words], self.directory, code)

    def compose(self, *words: str, tag: str = TAGS[0]) -> str:
        """Run a command of compose, with the image of a tag; return its output."""
        command = [sys.executable, "-m", "podman_compose"] if self.is_podman else ["docker", "compose"]
        file = self.directory / ".env"
        lines = re.sub(r"(?m)^SOT_INGEST_VERSION=.*$", f"SOT_INGEST_VERSION={tag}", file.read_text("utf-8"))
        file.write_text(lines, "utf-8")
        profiles = ["--profile", "try", "--profile", "monitor"]
        return run([*command, "--project-name", PROJECT, *profiles, *words], self.directory).stdout

    def container(self, service: str) -> str:
        """Return the container of a service. Raises ContainersError when there is none, running or not."""
        labels = [f"label=com.docker.compose.{name}" for name in (f"project={PROJECT}", f"service={service}")]
        found = self.run("ps", "--all", "--quiet", "--filter", labels[0], "--filter", labels[1]).stdout.split()
        if len(found) != 1:
            raise ContainersError(f"{service} has {len(found)} containers")
        return found[0]

    @property
    def started(self) -> list[str]:
        """The services that have a container, running or not."""
        label = f"label=com.docker.compose.project={PROJECT}"
        names = '{{index .Labels "com.docker.compose.service"}}'
        return self.run("ps", "--all", "--filter", label, "--format", names).stdout.split()

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
        """Tell whether a service's own health check says that it works. Raises ContainersError when it cannot start."""
        found = self.inspect(service)
        if found["RestartCount"] > 2:
            raise ContainersError(f"{service} ends again and again")
        if self.is_podman:
            return self.run("healthcheck", "run", found["Id"], code=None).returncode == 0
        return bool(found["State"]["Health"]["Status"] == "healthy")

    def start(self, *services: str, tag: str = TAGS[0]) -> None:
        """Start services, and wait until those that last are healthy and the others have ended well."""
        for service in services:
            ended = self.log(service).count(ENDED)
            self.compose("up", "--detach", "--no-deps", "--no-build", service, tag=tag)
            if service in ONCE:
                code = int(self.run("wait", self.container(service)).stdout)
                if code:
                    raise ContainersError(f"{service} ended with {code}: {self.log(service)[-2_000:]}")
            else:
                until(lambda service=service: self.is_healthy(service), f"{service} is healthy")  # type: ignore[misc]
            if service == "scheduler":
                until(lambda: self.log("scheduler").count(ENDED) == ended + len(commands()), "its commands have ended")  # noqa: B023


def commands() -> list[list[str]]:
    """Return the commands of the crontab."""
    lines = [line.split(maxsplit=5) for line in (docker.DOCKER / "crontab").read_text("utf-8").splitlines()]
    return [shlex.split(line[5]) for line in lines if line and not line[0].startswith("#")]


def prepare(engine: Engine) -> None:
    """Copy docker/ as an operator has it, with passwords of all kinds of characters, and a Prometheus in haste."""
    shutil.copytree(docker.DOCKER, engine.directory, dirs_exist_ok=True)
    text = (docker.DOCKER / ".env.example").read_text("utf-8")
    text = text.replace("'change-me'", f"'{PASSWORD}'").replace("'change-me-too'", f"'{ADMINISTRATORS}'")
    text += (
        f"SOT_INGEST_VERSION={TAGS[0]}\nSOT_INGEST_CLICKHOUSE_MEMORY=4g\nREPORT_PATH=/var/lib/sot-ingest/report.html\n"
    )
    (engine.directory / ".env").write_text(text, "utf-8")
    prometheus = engine.directory / "monitoring" / "prometheus.yml"
    prometheus.write_text(re.sub(r"(?m)^(  \w+_interval:) .*$", r"\1 5s", prometheus.read_text("utf-8")), "utf-8")
    if engine.is_podman:
        _adapt(engine.directory)


def _adapt(directory: Path) -> None:
    """Take out of the compose file what podman-compose cannot do, and put the stand-ins in."""
    compose = yaml.safe_load((directory / "compose.yaml").read_text("utf-8"))
    for name in [name for name in compose if name.startswith("x-")]:
        del compose[name]
    values = docker.read_env_file(directory / ".env")
    for name, secret in compose["secrets"].items():
        (directory / name).write_text(values[secret["environment"]], "utf-8")
        (directory / name).chmod(0o444)
        compose["secrets"][name] = {"file": f"./{name}"}
    services = compose["services"]
    for name, added in docker.compose(name="compose.read-only.yaml")["services"].items():
        services[name] |= added
    base = next(rest for word, rest in docker.instructions() if word == "FROM").partition(" ")[0]
    mounted = [f"{path}:/stand-ins/{name}:ro" for name, path in MOUNTED.items()]
    for name, service in services.items():
        service.pop("depends_on", None)
        service.pop("build", None)
        service["secrets"] = [each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])]
        if name in ENTRYPOINTS:
            service |= {"image": f"docker.io/library/{base}", "entrypoint": ENTRYPOINTS[name]}
            service["volumes"] += mounted
    del services["clickhouse"]["ulimits"]  # more than this host may have
    services["clickhouse"]["volumes"].append(f"{directory / 'grants.sql'}:/stand-ins/grants.sql:ro")
    services["prometheus"]["volumes"].remove("prometheus:/prometheus")
    services["prometheus"]["tmpfs"] = ["/prometheus"]
    for name in ("prometheus", "node-exporter"):
        services[name]["user"] = "65534:65534"  # the images'
    services["grants"]["command"].remove("--apply")  # the engine has nowhere to keep users: it is made with this one
    (directory / "compose.yaml").write_text(yaml.safe_dump(compose, sort_keys=False), "utf-8")


def keep_grants(engine: Engine) -> None:
    """Let the service grants print what it would apply: where nothing keeps users, they are made with that."""
    engine.start("grants")
    (engine.directory / "grants.sql").unlink()  # a link to what is written for one network
    (engine.directory / "grants.sql").write_text(engine.log("grants"), "utf-8")
