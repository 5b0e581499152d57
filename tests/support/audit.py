"""Known vulnerabilities of what the locks name, by pip-audit: ``python -m tests.support.audit``; installs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 300  #: for all of them, where the service answers slowly

Audit = Callable[[Sequence[Path]], dict[str, Any] | None]


@dataclass(frozen=True)
class Outcome:
    """What is known of the packages."""

    audited: int
    unknown: int
    vulnerable: tuple[str, ...]  #: a line each

    def lines(self) -> list[str]:
        """Return what to tell."""
        told = [f"audit: {self.audited} locked packages looked up, {len(self.vulnerable)} known vulnerabilities"]
        if self.unknown:
            why = "the service does not answer, or does not know them"
            told = [f"audit: {self.unknown} locked packages could NOT be looked up: {why}"]
            told += [f"audit: {self.audited} were"] if self.audited else []
        return [*told, *(f"audit: {line}" for line in self.vulnerable)]

    def exit_code(self, *, strict: bool) -> int:
        """Return 1 for a known vulnerability, and when strict for a package of which nothing is known."""
        return 1 if self.vulnerable or (strict and self.unknown) else 0


def pins(lock: Path) -> list[str]:
    """Return what a lock names, ``name==version``, without markers and hashes."""
    lines = lock.read_text("utf-8").splitlines()
    return [line.split(" ")[0].rstrip(";\\") for line in lines if line[:1].isalnum() and "==" in line]


def pip_audit(locks: Sequence[Path]) -> dict[str, Any] | None:
    """Return pip-audit's JSON, or None when its service cannot be reached: then it prints none."""
    files = [argument for lock in locks for argument in ("-r", str(lock))]
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner=off", "--timeout=5"]
    try:
        done = subprocess.run(
            [*command, "--format=json", *files], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return answer


def outcome(locks: Sequence[Path], audit: Audit = pip_audit) -> Outcome:
    """Look all packages up, after one of them, so that a service that does not answer is asked once."""
    every = sorted({pin for lock in locks for pin in pins(lock)})
    with tempfile.TemporaryDirectory() as directory:
        probe = Path(directory) / "probe.txt"
        probe.write_text(every[0] + "\n", "utf-8")
        first = audit([probe])
    answer = audit(locks) if first and not _unknown(first) else None
    if answer is None:
        return Outcome(0, len(every), ())
    vulnerable = {
        f"{each['name']} {each['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'none yet'}"
        for each in answer["dependencies"]
        for known in each.get("vulns", ())
    }
    unknown = _unknown(answer)
    return Outcome(len(answer["dependencies"]) - unknown, unknown, tuple(sorted(vulnerable)))


def _unknown(answer: dict[str, Any]) -> int:
    return sum("skip_reason" in each for each in answer["dependencies"])


def main(arguments: Sequence[str]) -> int:
    """Audit the four locks; print what is known; return the exit code."""
    if not set(arguments) <= {"--strict"}:
        sys.exit("usage: scripts/audit [--strict]")
    found = outcome(sorted((ROOT / "requirements").glob("*.lock")))
    sys.stdout.write("\n".join(found.lines()) + "\n")
    return found.exit_code(strict=bool(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
