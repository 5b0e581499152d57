"""Commands as an operator's shell starts them, but forked from a process that has imported everything already.

That saves a second for each. What such a process inherits is modules alone: environment, directory, standard streams,
session and arguments are the command's own.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from luigi.configuration import LuigiConfigParser

import pipeline

SECONDS = 120  #: longer than any command takes on a busy machine

_MODULES = [module.name for module in pkgutil.walk_packages(pipeline.__path__, "pipeline.")]
_LATE = ["clickhouse_driver", "boto3.s3.inject", "pyarrow.parquet", "urllib3", "apprise", "rich.progress"]
_LUIGIS = ["luigi.retcodes"]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([*_MODULES, *_LATE, *_LUIGIS, "tests.torture.commands", "tests.torture.frozen"])

Harm = Callable[[], None]  #: what a command does to itself before it begins; a picklable object


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    command: tuple[str, ...]
    exit_code: int  #: minus the signal's number when it was killed
    stdout: str
    stderr: str  #: the log


@dataclass
class Command:
    """A command that was started; the leader of a process group."""

    command: tuple[str, ...]
    process: ForkServerProcess
    stdout: Path
    stderr: Path

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return int(self.process.pid or 0)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.stderr.read_text("utf-8", errors="replace")

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process or to its group, if it still runs."""
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """Kill it and all that it forked."""
        self.signal(signal.SIGKILL, group=True)

    def wait(self, seconds: float = SECONDS) -> Ended:
        """Wait for its end. Raises TimeoutError, after it killed what did not end."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.kill()
            self.process.join()
            raise TimeoutError(f"{' '.join(self.command)} did not end within {seconds} s:\n{self.log[-2_000:]}")
        if code == -signal.SIGKILL:
            self.kill()  # it alone was killed, as by a lack of memory: nothing of it goes on beside the next command
        return Ended(self.command, code, self.stdout.read_text("utf-8", errors="replace"), self.log)


def start(command: Sequence[str], environment: Mapping[str, str], directory: Path, harm: Harm | None = None) -> Command:
    """Start a command in a session of its own; its output goes to files in ``directory``."""
    name = f"{time.monotonic_ns()}"
    stdout, stderr = directory / f"{name}.stdout", directory / f"{name}.stderr"
    stdout.touch()
    stderr.touch()
    process = _server.Process(target=_be, args=(list(command), dict(environment), directory, stdout, stderr, harm))
    process.start()
    return Command(tuple(command), process, stdout, stderr)


def _be(
    command: list[str], environment: dict[str, str], directory: Path, stdout: Path, stderr: Path, harm: Harm | None
) -> None:
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for path, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
    sys.argv = command
    LuigiConfigParser._instance = None  # the current directory's luigi.cfg is to count
    if harm is not None:
        harm()
    if command[0] == "luigi":
        from pipeline.runs import luigi_command  # noqa: PLC0415  # in the command's process alone

        sys.exit(luigi_command.main())
    from pipeline import cli  # noqa: PLC0415

    cli.main()
