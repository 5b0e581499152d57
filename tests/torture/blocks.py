"""All blocks, in order."""

from __future__ import annotations

from tests.torture import (
    block_a,
    block_b,
    block_c,
    block_d,
    block_e,
    block_f,
    block_g,
    block_h,
    block_i,
    block_j,
    block_k,
)
from tests.torture.case import Case

_MODULES = (block_a, block_b, block_c, block_d, block_e, block_f, block_g, block_h, block_i, block_j, block_k)

BLOCKS = tuple(module.BLOCK for module in _MODULES)


def quick(letters: str) -> dict[str, Case]:
    """Return the quick cases of some blocks by their names."""
    return {f"{block.letter}: {case.name}": case for block in BLOCKS if block.letter in letters for case in block.quick}
