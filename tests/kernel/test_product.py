"""How many sums run side by side: as many as fill half of the registers, and all of them in whole rounds."""

from __future__ import annotations

import pytest

from sparsity.kernel.layout import BUNDLE
from sparsity.kernel.product import Variant
from tests.kernel.weights import TILES

PROCESSORS = {"avx512": (16, 16), "avx2": (8, 8), "plain": (4, 8)}
"""(lanes, accumulators)."""


@pytest.mark.parametrize("block_rows", [1, 2, 4, 8])
@pytest.mark.parametrize("tokens", TILES)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_sums_fill_half_of_the_registers_and_divide_the_work(processor: str, tokens: int, block_rows: int) -> None:
    wide, accumulators = PROCESSORS[processor]
    lanes = min(wide, tokens)
    variant = Variant(lanes, tokens, block_rows, accumulators, wide, gathers=False)
    at_once = variant.vectors * variant.rows * variant.streams
    vectors = tokens // lanes
    assert at_once <= accumulators
    assert at_once == min(accumulators, vectors * BUNDLE) or block_rows > variant.rows
    assert vectors % variant.vectors == 0
    assert block_rows % variant.rows == 0
    assert BUNDLE % (variant.streams * block_rows) == 0
