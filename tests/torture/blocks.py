"""All blocks, in order."""

from __future__ import annotations

from tests.torture import block_a, block_b, block_c, block_d, block_e, block_f, block_j

BLOCKS = (
    block_a.BLOCK,
    block_b.BLOCK,
    block_c.BLOCK,
    block_d.BLOCK,
    block_e.BLOCK,
    block_f.BLOCK,
    block_j.BLOCK,
)
