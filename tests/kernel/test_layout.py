"""The buffer: written out by hand for a small weight, and the same weight again from any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsity.kernel import layout

SIZES = st.one_of(st.integers(1, 20), st.sampled_from([127, 128, 129, 255, 256, 257, 383, 384, 385, 391, 769]))
BITS = {"-0": 0x80000000, "denormal": 1, "nan": 0x7FC12345, "inf": 0x7F800000}
"""Numbers that a computation might alter on the way."""


def same_bits(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.dtype == other.dtype == np.float32 and np.array_equal(one.view(np.uint32), other.view(np.uint32))


def masked(rows: int, columns: int, sparsity: float, block_rows: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(weight, mask), in blocks of rows that keep the same columns; special numbers among the kept."""
    random = np.random.default_rng(seed)
    mask = random.random((-(-rows // block_rows), columns)) >= sparsity
    mask = mask.repeat(block_rows, 0)[:rows]
    weight = random.standard_normal((rows, columns), np.float32)
    kept = np.flatnonzero(mask)
    for bits, place in zip(BITS.values(), kept[random.permutation(len(kept))], strict=False):
        weight.reshape(-1).view(np.uint32)[place] = bits
    return weight, mask


def sections(packed: NDArray[np.uint8]) -> tuple[list[int], list[NDArray[Any]]]:
    """(the header's sizes, each section in its own type up to where the next begins)."""
    header = packed[:88].view(np.int64).tolist()
    ends = [*header[6:], len(packed)]
    kinds = (np.uint32, np.uint8, np.uint16, np.uint8, np.float32, np.float32)
    return header[:5], [packed[a:b].view(kind) for a, b, kind in zip(header[5:], ends, kinds, strict=True)]


def test_a_small_weight_lies_as_the_module_says() -> None:
    weight = np.zeros((3, 130), np.float32)
    weight[0, [0, 5]] = 1, 2
    weight[1, 7] = 3
    weight[2, 128] = 4
    packed = layout.pack(weight, weight != 0, np.array([0.5, -0.5, 0.25], np.float32))
    sizes, (starts, lengths, order, columns, values, bias) = sections(packed)
    assert sizes == [3, 130, 1, 8, 128]  # rows, columns, block rows, panel rows, panel columns
    assert starts[:2].tolist() == [0, 2]
    assert lengths[:2].tolist() == [2, 1]
    # rows by how many weights they keep in the panel, those of the same number in order
    assert order[:16].reshape(2, 8).tolist() == [[2, 3, 4, 5, 6, 7, 1, 0], [0, 1, 3, 4, 5, 6, 7, 2]]
    steps = [[0, 0, 0, 0, 0, 0, 7, 0], [0, 0, 0, 0, 0, 0, 0, 5], [0, 0, 0, 0, 0, 0, 0, 0]]
    assert columns[:24].reshape(3, 8).tolist() == steps
    steps = [[0, 0, 0, 0, 0, 0, 3, 1], [0, 0, 0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 4]]
    assert values[:24].reshape(3, 8).tolist() == steps
    assert bias.tolist() == [0.5, -0.5, 0.25, 0, 0, 0, 0, 0]


def test_rows_of_a_block_share_the_byte_of_their_column() -> None:
    weight = np.zeros((8, 9), np.float32)
    weight[:4, 3] = 1, 2, 3, 4
    weight[4:, 8] = 5, 6, 7, 8
    weight[4:, 1] = -1, -2, -3, -4
    sizes, (_, lengths, order, columns, values, _) = sections(layout.pack(weight, weight != 0, block_rows=4))
    assert sizes == [8, 9, 4, 8, 128]
    assert lengths[:1].tolist() == [2]
    assert order[:2].tolist() == [0, 4]
    assert columns[:4].tolist() == [3, 1, 0, 8]
    assert values[:16].tolist() == [1, 2, 3, 4, -1, -2, -3, -4, 0, 0, 0, 0, 5, 6, 7, 8]


def test_sections_begin_at_cache_lines() -> None:
    packed = layout.pack(*masked(391, 300, 0.5, 1, 0))
    assert all(offset % 64 == 0 for offset in packed[40:88].view(np.int64).tolist())


@settings(max_examples=150, deadline=None)
@given(SIZES, SIZES, st.sampled_from([0.0, 0.3, 0.9, 0.995, 1.0]), st.sampled_from([1, 2, 4, 8]), st.integers(0, 9))
@example(1, 300, 0.0, 1, 0)
@example(391, 1, 0.5, 8, 0)
@example(769, 257, 0.0, 4, 0)
def test_a_weight_unpacks_to_what_was_packed(
    rows: int, columns: int, sparsity: float, block_rows: int, seed: int
) -> None:
    weight, mask = masked(rows, columns, sparsity, block_rows, seed)
    bias = np.random.default_rng(seed).standard_normal(rows, np.float32)
    packed = layout.pack(weight, mask, bias, block_rows)
    expected = np.where(mask, weight.view(np.uint32), 0).view(np.float32)
    assert same_bits(layout.unpack(packed), expected)
    assert same_bits(layout.bias_of(packed), bias)


@pytest.mark.parametrize("block_rows", [1, 2, 4, 8])
def test_rows_that_keep_nothing_and_rows_that_keep_all(block_rows: int) -> None:
    weight, mask = masked(400, 260, 0.5, block_rows, 1)
    mask[: 3 * block_rows], mask[5 * block_rows : 7 * block_rows], mask[:, 128:256] = False, True, False
    expected = np.where(mask, weight.view(np.uint32), 0).view(np.float32)
    assert same_bits(layout.unpack(layout.pack(weight, mask, None, block_rows)), expected)


def test_what_is_not_kept_is_not_read() -> None:
    weight, mask = masked(50, 60, 0.7, 1, 2)
    other = np.where(mask, weight.view(np.uint32), 0x7FC00000).view(np.float32)  # not a number
    assert np.array_equal(layout.pack(weight, mask), layout.pack(other, mask))


def test_no_bias_is_one_of_zeros() -> None:
    assert layout.bias_of(layout.pack(*masked(9, 9, 0.5, 1, 0))).tolist() == [0.0] * 9


@pytest.mark.parametrize(("block_rows", "most"), [(1, 5.35), (2, 4.75), (4, 4.45), (8, 4.25)])
def test_a_kept_weight_takes_little_more_than_its_value_and_its_column(block_rows: int, most: float) -> None:
    weight, mask = masked(768, 768, 0.9, block_rows, 0)
    packed = layout.pack(weight, mask, None, block_rows)
    assert 4 + 1 / block_rows < packed.nbytes / mask.sum() < most


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32])
@pytest.mark.parametrize("what", ["weight", "bias"])
def test_refuses_what_is_not_fp32(kind: type, what: str) -> None:
    mask = np.eye(4, dtype=bool)
    given = {"weight": np.ones((4, 4), np.float32), "bias": np.zeros(4, np.float32)}
    given[what] = given[what].astype(kind)
    with pytest.raises(TypeError, match=f"^weights and biases must be fp32, not {np.dtype(kind)}$"):
        layout.pack(given["weight"], mask, given["bias"])


def test_refuses_more_weights_than_a_buffer_can_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LARGEST", 10)
    weight, mask = masked(8, 9, 0.0, 1, 0)
    assert layout.unpack(layout.pack(weight, mask)).shape == (8, 9)  # nine steps
    weight, mask = masked(8, 10, 0.0, 1, 0)
    with pytest.raises(ValueError, match=r"^a weight of 8 x 10 keeps too many weights for one buffer$"):
        layout.pack(weight, mask)
