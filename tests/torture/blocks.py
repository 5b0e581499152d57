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

_MODULES = (block_a, block_b, block_c, block_d, block_e, block_f, block_g, block_h, block_i, block_j, block_k)

BLOCKS = tuple(module.BLOCK for module in _MODULES)
