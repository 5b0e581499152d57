"""One of the processes that run cases: on its own ClickHouse servers and S3 API, one case after the other."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict

from tests.torture.blocks import BLOCKS, CLUSTER_BLOCKS
from tests.torture.case import Block, Case, Outcome
from tests.torture.site import Ground, ground


def numbered(block: Block, made: Ground, seed: int) -> Iterator[tuple[str, Case]]:
    """Yield a block's cases with their names, such as A17."""
    for number, case in enumerate(block.cases(made, random.Random(f"{seed} {block.letter}")), 1):  # noqa: S311  # repeatable
        yield f"{block.letter}{number}", case


def run(made: Ground, name: str, case: Case) -> Outcome:
    """Run a case. What breaks the case itself is a violation, too.

    When the server ended by itself, what followed says nothing of the pipeline: the case is run once more, with a
    warning that tells how the server ended.
    """
    started = time.monotonic()
    violations, looks, has_server = _try(made, case)
    if not has_server:
        warnings.warn(f"{name} is run once more, {violations}", stacklevel=1)
        violations, looks, _ = _try(made, case)
    seconds = round(time.monotonic() - started, 2)
    return Outcome(name, case.name, violations, looks, seconds, case.examples)


def _try(made: Ground, case: Case) -> tuple[list[str], int, bool]:
    """Return what was violated, how often readers looked, and whether the server ran in the end."""
    violations: list[str] = []
    looks, has_server = 0, True
    try:
        with made.site(case.networks) as site:
            violations = site.violations
            try:
                case.run(site)
            finally:
                looks, has_server = site.watch.looks, made.running
                for server in made.servers:
                    if not server.running:
                        violations.append(f"0: the server has ended: {server.log_tail()}")
    except Exception:  # noqa: BLE001  # whatever it is: the next case is to run
        violations.append(f"0: {traceback.format_exc()}")
    return violations, looks, has_server


def main() -> None:
    """Print the names of all cases of the blocks, then run each case whose name comes on standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--blocks", required=True)
    parser.add_argument("--rivals-seconds", type=float, required=True)
    chosen = parser.parse_args()
    blocks = [block for block in (*BLOCKS, *CLUSTER_BLOCKS) if block.letter in chosen.blocks]
    is_cluster = all(block in CLUSTER_BLOCKS for block in blocks)
    with ground(cluster=is_cluster, rivals_seconds=chosen.rivals_seconds) as made:
        cases = dict(pair for block in blocks for pair in numbered(block, made, chosen.seed))
        _say(list(cases))
        for line in sys.stdin:
            name = line.strip()
            _say(asdict(run(made, name, cases[name])))


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
