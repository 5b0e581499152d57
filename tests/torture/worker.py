"""Runs the cases of one worker, and prints what became of each as a line of JSON."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict

from tests.torture.blocks import BLOCKS
from tests.torture.case import Block, Case, Outcome
from tests.torture.site import Ground, ground


def numbered(block: Block, made: Ground, seed: int) -> Iterator[tuple[str, Case]]:
    """Yield a block's cases with their names, such as A17."""
    for number, case in enumerate(block.cases(made, random.Random(f"{seed} {block.letter}")), 1):  # noqa: S311  # repeatable
        yield f"{block.letter}{number}", case


def run(made: Ground, name: str, case: Case) -> Outcome:
    """Run a case. What breaks the case itself is a violation, too."""
    started = time.monotonic()
    violations, looks = [], 0
    try:
        with made.site(case.networks) as site:
            try:
                case.run(site)
            finally:
                violations, looks = site.violations, site.watch.looks
    except Exception:  # noqa: BLE001  # whatever it is: the next case is to run
        violations.append(f"0: {traceback.format_exc()}")
    return Outcome(name, case.name, violations, looks, round(time.monotonic() - started, 2))


def main() -> None:
    """Run the cases that stand on standard input, a name each line; of all blocks that these need."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    seed = parser.parse_args().seed
    wanted = sys.stdin.read().split()
    with ground() as made:
        for block in BLOCKS:
            if not any(name.startswith(block.letter) for name in wanted):
                continue
            for name, case in numbered(block, made, seed):
                if name in wanted:
                    sys.stdout.write(json.dumps(asdict(run(made, name, case))) + "\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
