"""Hands the cases to workers, keeps what became of each, and goes on from there the next time."""

from __future__ import annotations

import hashlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.clickhouse import ROOT
from tests.torture.case import Outcome

CACHE = ROOT / ".cache" / "torture"

#: How many cases each block has to have at the least; when the time is short all come equally near to that.
LEAST = {"A": 200, "B": 200, "C": 200, "D": 112, "E": 64, "F": 120, "G": 45, "H": 58, "I": 19, "J": 1, "K": 8}
LEAST |= {"L": 80, "M": 32, "N": 30, "O": 1, "P": 12}  # on a cluster

#: Programs of their own, which nothing else in the pipeline imports, and no case starts.
_NEVER_RUN = {"cron.py", "demo_store.py"}


@dataclass
class Results:
    """What is known of the cases of one seed; for another version of the pipeline it is another file."""

    path: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, seed: int) -> Results:
        """Return what earlier runs with this version of the pipeline found."""
        CACHE.mkdir(parents=True, exist_ok=True)
        found = cls(CACHE / f"{_fingerprint()}-{seed}.jsonl")
        if found.path.exists():
            for line in found.path.read_text("utf-8").splitlines():
                outcome = Outcome(**json.loads(line))
                found.outcomes[outcome.case] = outcome
        return found

    def keep(self, outcome: Outcome) -> None:
        """Add what became of a case."""
        with self._lock:
            self.outcomes[outcome.case] = outcome
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")


def _fingerprint() -> str:
    """Return what changes with the pipeline, as far as a case can run it."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "pipeline").rglob("*")):
        if path.suffix in {".py", ".sql", ".html"} and path.name not in _NEVER_RUN:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@dataclass
class _Worker:
    """A process that runs a case after the other."""

    process: subprocess.Popen[str]
    cases: list[str]  #: all that the blocks have

    def run(self, case: str) -> Outcome:
        """Run a case. Raises EOFError when the process ends."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(case + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise EOFError from error
        return Outcome(**json.loads(_line(self.process)))


@contextmanager
def _worker(seed: int, blocks: str, rivals_seconds: float) -> Iterator[_Worker]:
    # Not -m: what a worker forks would import its main module again, with all that this imports.
    begin = "from tests.torture.worker import main; main()"
    options = {"seed": seed, "blocks": blocks, "rivals-seconds": rivals_seconds}
    command = [sys.executable, "-c", begin, *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield _Worker(process, json.loads(_line(process)))


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise EOFError(f"the worker ended with {process.wait()}")
    return line


def _turn(case: str) -> float:
    """Return what cases are ordered by: those that take minutes begin."""
    return 0 if case[0] in "JO" else int(case[1:]) / LEAST[case[0]]


@dataclass
class Campaign:
    """Cases of some blocks, and the workers that run them."""

    seed: int
    blocks: str  #: letters
    results: Results
    tell: Callable[[Outcome], None]  #: is told of each outcome
    minutes: float  #: after which no case begins any more
    rivals_seconds: float  #: of the case with two deployments
    _end: float = float("inf")
    _waiting: queue.Queue[str] = field(default_factory=queue.Queue)

    def run(self, chosen: Sequence[str], workers: int, *, again: bool) -> list[str]:
        """Run the chosen cases, or all, unless they have an outcome; return their names."""
        self._end = time.monotonic() + self.minutes * 60
        with _worker(self.seed, self.blocks, self.rivals_seconds) as first:
            cases = [case for case in first.cases if not chosen or case in chosen]
            left = [case for case in cases if again or case not in self.results.outcomes]
            for case in sorted(left, key=_turn):
                self._waiting.put(case)
            others = [threading.Thread(target=self._begin) for _ in range(min(workers, len(left)) - 1)]
            for thread in others:
                thread.start()
            self._work(first)
            for thread in others:
                thread.join()
        return cases

    def _begin(self) -> None:
        with _worker(self.seed, self.blocks, self.rivals_seconds) as worker:
            self._work(worker)

    def _work(self, worker: _Worker) -> None:
        """Run cases while there are any, and time; a worker that ends is a violation, and another takes its place."""
        while time.monotonic() < self._end:
            try:
                case = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                outcome = worker.run(case)
            except EOFError as error:
                outcome = Outcome(case, "the worker", [f"0: {error}"], 0, 0.0)
            self.results.keep(outcome)
            self.tell(outcome)
            if worker.process.poll() is not None:
                self._begin()
                return
