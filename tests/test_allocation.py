"""Allocations: densities by hand and by a slow reading of the papers, and whole numbers that add up."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparsity import allocation

SHAPES = [(4, 4), (4, 12), (12, 12)]  # 16, 48, 144 weights; (out + in) / (out x in): 1/2, 1/3, 1/6
side = st.integers(1, 64)
shapes_of_layers = st.lists(st.tuples(side, side), min_size=1, max_size=6)
sparsities = st.floats(0, 0.99)


def sum_kept(densities: list[float], sizes: list[int]) -> float:
    return sum(density * size for density, size in zip(densities, sizes, strict=True))


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [
        (0.75, [13 / 24, 13 / 36, 13 / 72]),  # 52 weights in the proportion 8 : 16 : 24
        (0.5, [1, 88 / 40 / 3, 88 / 40 / 6]),  # the first would keep 13/12 of itself; the others share 88 as 16 : 24
        (68 / 208, [1, 1, 76 / 144]),  # the second is only beyond all once the first is capped
        (0.25, [1, 1, 92 / 144]),  # both at once
        (0.0, [1, 1, 1]),
    ],
)
def test_golden_erk_densities(sparsity: float, expected: list[float]) -> None:
    assert allocation.erk(SHAPES, sparsity) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)
@given(shapes=shapes_of_layers, sparsity=sparsities)
def test_erk_keeps_in_all_what_was_asked(shapes: list[tuple[int, int]], sparsity: float) -> None:
    sizes = [rows * columns for rows, columns in shapes]
    densities = allocation.erk(shapes, sparsity)
    assert sum_kept(densities, sizes) == pytest.approx((1 - sparsity) * sum(sizes), rel=1e-9)
    assert all(0 < density <= 1 for density in densities)


@settings(deadline=None)
@given(shapes=shapes_of_layers, sparsity=sparsities)
def test_erk_is_proportional_but_where_that_would_be_beyond_all(shapes: list[tuple[int, int]], sparsity: float) -> None:
    raw = [(rows + columns) / (rows * columns) for rows, columns in shapes]
    densities = allocation.erk(shapes, sparsity)
    scales = [density / r for density, r in zip(densities, raw, strict=True) if density < 1]
    assume(scales)
    assert scales == pytest.approx([scales[0]] * len(scales), rel=1e-9)
    for density, r in zip(densities, raw, strict=True):
        assert density == pytest.approx(min(1.0, r * scales[0]), rel=1e-9)


def owl_by_hand(outliers: list[float], sizes: list[int], sparsity: float) -> list[float]:
    """Section 3.2, a layer at a time: outlier ratios scaled to 0 … 2 lambda, then moved to the mean that was asked."""
    lowest, highest = min(outliers), max(outliers)
    densities = []
    for outlier in outliers:
        place = 0.0 if highest == lowest else (outlier - lowest) / (highest - lowest)
        densities.append(2 * allocation.SPAN * place)
    moved = (1 - sparsity) - math.fsum(d * size for d, size in zip(densities, sizes, strict=True)) / sum(sizes)
    return [min(max(density + moved, 0.0), 1.0) for density in densities]


shares = st.integers(0, 1000).map(lambda count: count / 1000)
layers_with_outliers = st.lists(st.tuples(shares, st.integers(1, 10_000)), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("outliers", "sizes", "sparsity", "expected"),
    [
        ([0.01, 0.02, 0.03], [5, 5, 5], 0.5, [0.42, 0.5, 0.58]),
        ([0.03, 0.01], [7, 7], 0.7, [0.38, 0.22]),  # more outliers, more kept
        ([0.0, 1.0], [3, 1], 0.5, [0.46, 0.62]),  # the mean is of weights, not of layers
        ([0.2, 0.2], [3, 1], 0.6, [0.4, 0.4]),  # all alike: each keeps the same
        ([0.2], [9], 0.6, [0.4]),
        ([0.0, 0.5, 1.0], [1, 1, 1], 0.02, [0.9, 0.98, 1.0]),  # no more than all
        ([0.0, 0.5, 1.0], [1, 1, 1], 0.95, [0.0, 0.05, 0.13]),  # no less than nothing
    ],
)
def test_golden_owl_densities(outliers: list[float], sizes: list[int], sparsity: float, expected: list[float]) -> None:
    assert allocation.owl(outliers, sizes, sparsity) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(layers=layers_with_outliers, sparsity=sparsities)
def test_owl_is_the_formula_of_the_paper(layers: list[tuple[float, int]], sparsity: float) -> None:
    outliers, sizes = [o for o, _ in layers], [size for _, size in layers]
    densities = allocation.owl(outliers, sizes, sparsity)
    assert densities == pytest.approx(owl_by_hand(outliers, sizes, sparsity), abs=1e-12)


@settings(deadline=None)
@given(layers=layers_with_outliers, sparsity=st.floats(0.2, 0.8))
def test_owl_spans_twice_lambda_in_the_order_of_outliers_around_what_was_asked(
    layers: list[tuple[float, int]], sparsity: float
) -> None:
    outliers, sizes = [o for o, _ in layers], [size for _, size in layers]
    densities = allocation.owl(outliers, sizes, sparsity)
    assert sum_kept(densities, sizes) == pytest.approx((1 - sparsity) * sum(sizes), rel=1e-9)
    span = 0.16 if min(outliers) < max(outliers) else 0.0
    assert max(densities) - min(densities) == pytest.approx(span, abs=1e-12)
    ranked = [density for _, density in sorted(zip(outliers, densities, strict=True))]
    assert ranked == sorted(ranked)


@pytest.mark.parametrize(
    ("densities", "sizes", "keep", "expected"),
    [
        ([0.5, 0.25], [10, 20], 10, [5, 5]),
        ([0.26, 0.26, 0.48], [10, 10, 10], 10, [3, 2, 5]),  # the largest remainders, of equals the earlier
        ([0.5, 0.5, 0.5], [3, 3, 4], 5, [2, 1, 2]),
        ([0.01, 0.99], [10, 10], 10, [1, 9]),  # at least one, and who has more gives it
        ([1.0, 1.0], [4, 6], 10, [4, 6]),
        ([1.0, 0.2], [4, 10], 9, [4, 5]),  # no more than all
        ([0.0, 0.0], [5, 5], 7, [4, 3]),  # densities that are far from the sum are filled up in turn
        ([1.0, 1.0], [5, 5], 3, [2, 1]),
        ([0.0, 0.0, 0.0], [9, 9, 9], 3, [1, 1, 1]),
    ],
)
def test_golden_counts(densities: list[float], sizes: list[int], keep: int, expected: list[int]) -> None:
    assert allocation.counts(densities, sizes, keep) == expected


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_counts_add_up_with_at_least_one_each_and_at_most_all(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=8))
    densities = data.draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)))
    keep = data.draw(st.integers(len(sizes), sum(sizes)))
    kept = allocation.counts(densities, sizes, keep)
    assert sum(kept) == keep
    assert all(1 <= count <= size for count, size in zip(kept, sizes, strict=True))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_counts_round_to_a_neighbour_and_the_largest_remainders_up(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=8))
    densities = [data.draw(st.floats(1 / size, 1)) for size in sizes]  # none below one, so nothing has to be mended
    exact = [density * size for density, size in zip(densities, sizes, strict=True)]
    keep = round(sum(exact))
    kept = allocation.counts(densities, sizes, keep)
    assert sum(kept) == keep
    assert all(abs(count - e) < 1 + 1e-9 for count, e in zip(kept, exact, strict=True))
    up = [e - math.floor(e) for count, e in zip(kept, exact, strict=True) if count > e]
    down = [e - math.floor(e) for count, e in zip(kept, exact, strict=True) if count < e]
    assert not up or not down or min(up) >= max(down)


@settings(deadline=None)
@given(shapes=shapes_of_layers, sparsity=sparsities)
def test_counts_of_erk_lie_within_one_of_its_densities(shapes: list[tuple[int, int]], sparsity: float) -> None:
    sizes = [rows * columns for rows, columns in shapes]
    densities = allocation.erk(shapes, sparsity)
    exact = [density * size for density, size in zip(densities, sizes, strict=True)]
    assume(min(exact) >= 1)
    keep = round((1 - sparsity) * sum(sizes))
    kept = allocation.counts(densities, sizes, keep)
    assert sum(kept) == keep
    assert all(abs(count - e) < 1 + 1e-6 for count, e in zip(kept, exact, strict=True))
