"""Runs the compose file, and says what of it is as it should be: scripts/containers, which builds the image first.

python -m tests.support.containers docker|podman
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import urllib3

from tests.support import docker
from tests.support.engine import (
    ADMINISTRATORS,
    ENDED,
    ONCE,
    OURS,
    PASSWORD,
    TAGS,
    ContainersError,
    Engine,
    commands,
    keep_grants,
    prepare,
    until,
)

NETWORKS = 3
RULES = 11  #: of docker/monitoring/rules.yml
LONG_AGO = "2020-01-01"  #: a day that nobody has


def check(is_right: object, what: str, found: object = "") -> None:
    """Say that something is right. Raises ContainersError when it is not."""
    if not is_right:
        raise ContainersError(f"{what}: {found}")
    click.echo(f"   {what}")


def published(engine: Engine) -> list[tuple[str, ...]]:
    """Return what readers see: network, date and publication."""
    command = ["sot-ingest", "status", "--days", "2", "--json"]
    found = json.loads(engine.inside("scheduler", *command).stdout)
    names = ("network", "processing_date", "publication_id")
    return [tuple(each[name] for name in names) for each in found if each["publication_id"]]


def check_start(engine: Engine) -> None:
    """All services work, and the scheduler does its commands once."""
    engine.start(*engine.services)
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
    for service in OURS:
        is_read_only = engine.inspect(service)["HostConfig"]["ReadonlyRootfs"]
        wanted = engine.is_podman or docker.compose()["services"][service]["read_only"]
        check(is_read_only == wanted, f"{service}'s root is {'' if wanted else 'not '}read-only", is_read_only)
    for service in (name for name in OURS if name not in ONCE):
        status = dict(
            line.split(":\t", 1) for line in engine.inside(service, "cat", "/proc/1/status").stdout.splitlines()
        )
        capabilities = {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        check(capabilities == {""}, f"{service} has no capability", status)
        check(status["NoNewPrivs"] == "1", f"{service} gets no new privileges")
        check(engine.inside(service, "id", "-u").stdout.strip() == "10001", f"{service} is an ordinary user")
        mounts = [line.split() for line in engine.inside(service, "cat", "/proc/mounts").stdout.splitlines()]
        options = next(options.split(",") for _, place, _, options, *_ in mounts if place == "/")
        find = ["find", "/", "-xdev", "(", "-type", "d", "-o", "-type", "f", ")", "-writable"]
        others = set(engine.inside(service, *find, code=None).stdout.split()) - {place for _, place, *_ in mounts}
        is_closed = not others and ("ro" in options or not engine.is_podman)
        check(is_closed, f"{service} writes to its volumes and to memory only", others or options)
        limit = engine.inspect(service)["HostConfig"]["Memory"]
        check(limit in {1 << 30, 2 << 30}, f"{service} has a limit of memory", limit)
        environment = engine.inside(service, "env").stdout
        secrets = [PASSWORD, ADMINISTRATORS, docker.env_example()["API_TOKEN"]]
        check(not [secret for secret in secrets if secret in environment], f"no secret is in {service}'s environment")
    who = "import pipeline.graph.context as c; print(c.get_context().warehouse('torus').query('SELECT currentUser()'))"
    found = engine.inside("scheduler", "python", "-c", who).stdout
    check("ingest" in found, "the pipeline is no administrator", found)
    denied = who.replace("SELECT currentUser()", "SELECT count() FROM system.users")
    said = engine.inside("scheduler", "python", "-c", denied, code=1).stderr
    check("Not enough privileges" in said, "what is not granted is refused", said)


def check_outside(engine: Engine) -> None:
    """What is published is reached from this host, and over no other of its addresses."""
    ports = {8123: "/ping", 8082: "/static/visualiser/index.html", 8080: "/healthz", 9090: "/-/healthy"}
    for port, path in ports.items():
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}{path}", retries=False, timeout=10)
        check(answer.status == 200, f"127.0.0.1:{port}{path} answers", answer.status)
    for service in engine.lasting:
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


def check_monitoring(engine: Engine) -> None:
    """Prometheus asks what there is to ask, and an alert is about the network that failed."""
    jobs = dict.fromkeys(("sot-ingest", "sot-ingest-files", "luigid"), "up")
    until(lambda: targets("health") == jobs, "every job is up", lambda: targets("lastError"))
    check(True, f"the jobs {', '.join(jobs)} are up")
    until(lambda: [each["health"] for each in rules()] == ["ok"] * RULES, "the rules are evaluated", rules)
    check(not firing(), f"{RULES} rules are evaluated, and none fires", firing())
    engine.inside("scheduler", "sot-ingest", "run", "--date", LONG_AGO, "--network", "torus", code=20)
    until(lambda: firing() == {("SotIngestRunFailed", "torus")}, "SotIngestRunFailed fires for torus alone", firing)
    engine.inside("scheduler", "sot-ingest", "run")
    until(lambda: not firing(), "SotIngestRunFailed has ended", firing)
    check(True, "SotIngestRunFailed fires after a run that failed, for its network alone, until one succeeds")


def ask(what: str) -> dict[str, Any]:
    """Ask Prometheus."""
    answer = urllib3.request("GET", f"http://127.0.0.1:9090/api/v1/{what}", timeout=10)
    found: dict[str, Any] = answer.json()["data"]
    return found


def targets(what: str) -> dict[str, str]:
    """Return what Prometheus knows of the target of each job."""
    return {each["labels"]["job"]: each[what] for each in ask("targets")["activeTargets"]}


def rules() -> list[dict[str, Any]]:
    """Return the rules that Prometheus has loaded."""
    return [rule for group in ask("rules")["groups"] for rule in group["rules"]]


def firing() -> set[tuple[str, str | None]]:
    """Return the alerts that fire, each with its network."""
    alerts = [each for each in ask("alerts")["alerts"] if each["state"] == "firing"]
    return {(each["labels"]["alertname"], each["labels"].get("network")) for each in alerts}


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
    """Run the compose file with the images sot-ingest:one and sot-ingest:two.

    With podman in namespaces of this process, with which all of it ends.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine(program, Path(scratch))
        prepare(engine)
        started = time.monotonic()
        try:
            if engine.is_podman:
                subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
                keep_grants(engine)
            labels = json.loads(engine.run("image", "inspect", f"sot-ingest:{TAGS[0]}").stdout)[0]
            labels = labels.get("Labels") or labels["Config"]["Labels"]
            check(labels.get("org.opencontainers.image.version") == TAGS[0], "the image says its version", labels)
            for step in (
                check_start,
                check_rights,
                check_outside,
                check_monitoring,
                check_backup,
                check_ends,
                check_upgrade,
            ):
                click.echo(f"== {(step.__doc__ or '').partition('.')[0]} ({time.monotonic() - started:.0f} s)")
                step(engine)
        except ContainersError as error:
            click.echo(f"scripts/containers: {error}", err=True)
            for service in engine.started:
                click.echo(f"== the end of {service}'s log\n{engine.log(service)[-3_000:]}", err=True)
            sys.exit(1)
        finally:
            if engine.is_podman and "KEEP" in os.environ:
                subprocess.run(["bash"], cwd=scratch, check=False)
            elif not engine.is_podman and "KEEP" not in os.environ:
                engine.compose("down", "--volumes")
                engine.run("rmi", "--force", *(f"sot-ingest:{tag}" for tag in TAGS), code=None)
        click.echo(f"All of it is as it should be ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
