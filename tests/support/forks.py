"""Many commands of one deployment, each in a process of its own, and the imports paid for once: ``run_all``.

    python -m tests.support.forks COMMANDS

The module reads the commands from a JSON file, forks for each, and writes what came of it beside that file.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.deployment import Deployment, Result

ROOT = Path(__file__).parents[2]

#: What commands import when they need it.
LATE = ("apprise", "boto3", "clickhouse_driver", "jinja2", "pyarrow.parquet", "urllib3", "pipeline.sources.s3_client")

Command = tuple[Sequence[str], Mapping[str, str | None]]  #: arguments of sot-ingest, changes of the environment


def run_all(deployment: Deployment, *commands: Command) -> list[Result]:
    """Run ``sot-ingest`` with each of the arguments, one after the other, as if it were typed in the deployment."""
    directory = deployment.directory.with_name(f"{deployment.directory.name}-forks")
    directory.mkdir(parents=True, exist_ok=True)
    plan = directory / "commands.json"
    plan.write_text(json.dumps(commands), "utf-8")
    python = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.support.forks", str(plan)]
    driver = deployment.command(*python)
    assert driver.exit_code == 0, driver.stderr
    results = []
    for number, code in enumerate(json.loads(driver.stdout)):
        texts = [(directory / f"{number}.{name}").read_text("utf-8") for name in ("stdout", "stderr")]
        results.append(Result(code, *texts))
    return results


def main(plan: Path) -> None:
    """Run the plan; print the exit codes."""
    from pipeline import cli  # noqa: PLC0415  # reads luigi.cfg where the command is
    from pipeline.commands import VERBS  # noqa: PLC0415

    for name in ("pipeline.tasks", *(f"pipeline.commands.{verb}" for verb in VERBS), *LATE):
        importlib.import_module(name)
    codes = []
    for number, (arguments, changes) in enumerate(json.loads(plan.read_text("utf-8"))):
        pid = os.fork()
        if pid == 0:
            outputs = [plan.with_name(f"{number}.{name}") for name in ("stdout", "stderr")]
            os._exit(_child(cli.main, arguments, changes, outputs))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    sys.stdout.write(json.dumps(codes))


def _child(command: Any, arguments: list[str], changes: dict[str, str | None], outputs: list[Path]) -> int:
    """Be the command: return its exit code."""
    os.setsid()
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    for name, value in changes.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    sys.argv = ["sot-ingest", *arguments]
    code: Any = 0
    try:
        command()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  # as the interpreter would
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
