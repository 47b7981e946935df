"""Masks: golden tables, and the laws that any selection must obey."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity import mask
from sparsity.errors import BadValue

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def keep(scores: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    return mask.keep_highest([lambda s=s: s for s in scores], count)  # type: ignore[misc]  # mypy cannot type a lambda's defaults


def by_sorting(scores: list[torch.Tensor], count: int) -> torch.Tensor:
    """The slow reference: a stable sort of everything, highest first."""
    flat = torch.cat([s.flatten() for s in scores]).double() + 0.0
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[torch.argsort(flat, descending=True, stable=True)[:count]] = True
    return kept


GOLDEN = [
    ([[3.0, 1.0, 2.0, 0.0]], 2, [[True, False, True, False]]),
    ([[1.0, 1.0, 1.0, 1.0]], 2, [[True, True, False, False]]),  # ties: the earlier stays
    ([[1.0, 2.0], [2.0, 2.0]], 2, [[False, True], [True, False]]),  # ties across matrices, in order
    ([[-1.0, -3.0, -2.0]], 1, [[True, False, False]]),
    ([[0.0, -0.0, 0.0]], 2, [[True, True, False]]),  # both zeros are the same number
    ([[5.0, 7.0]], 0, [[False, False]]),
    ([[5.0, 7.0]], 2, [[True, True]]),
]


@pytest.mark.parametrize(("scores", "count", "expected"), GOLDEN)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_golden_masks(scores: list[list[float]], count: int, expected: list[list[bool]], dtype: torch.dtype) -> None:
    masks = keep([torch.tensor(s, dtype=dtype) for s in scores], count)
    assert [m.tolist() for m in masks] == expected


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_equals_a_stable_sort_of_everything(data: st.DataObject, dtype: torch.dtype) -> None:
    value = st.one_of(st.integers(-3, 3).map(float), st.floats(-60000, 60000, width=16))
    rows = data.draw(st.lists(st.lists(value, min_size=1, max_size=30), min_size=1, max_size=4))
    scores = [torch.tensor(row, dtype=dtype) for row in rows]
    count = data.draw(st.integers(0, sum(map(len, rows))))
    masks = keep(scores, count)
    assert torch.equal(torch.cat(masks), by_sorting(scores, count))


def test_many_chunks_and_ties_across_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask, "CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randint(0, 5, (n, 3), generator=generator).float() for n in (10, 1, 33)]
    for count in range(0, 132, 11):
        masks = keep(scores, count)
        assert torch.equal(torch.cat([m.flatten() for m in masks]), by_sorting(scores, count))


def test_masks_have_the_shape_of_their_scores_even_when_transposed() -> None:
    score = torch.arange(12.0).view(3, 4).t()
    (kept,) = keep([score], 3)
    assert kept.shape == (4, 3)
    assert torch.equal(kept, score >= 9)


def test_more_sparsity_never_keeps_more() -> None:
    scores = [torch.randn(40, 10, generator=torch.Generator().manual_seed(1))]
    before = keep(scores, 400)[0]
    for count in range(399, -1, -57):
        after = keep(scores, count)[0]
        assert not (after & ~before).any()
        before = after


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(BadValue, match="NaN or infinite"):
        keep([torch.tensor([1.0, bad, 2.0])], 1)


def test_counts_outside_what_there_is_are_refused() -> None:
    with pytest.raises(BadValue, match="cannot keep 4 of 3 scores"):
        keep([torch.ones(3)], 4)


def test_scores_of_two_dtypes_cannot_compete() -> None:
    with pytest.raises(BadValue, match=r"different dtypes.*float32.*float64"):
        keep([torch.ones(3), torch.ones(3).double()], 2)


@pytest.mark.parametrize(("sparsity", "total", "removed"), [(0.5, 5, 2), (0.5, 7, 4), (0.9, 10, 9), (0.0, 3, 0)])
def test_counts_round_as_torch_rounds(sparsity: float, total: int, removed: int) -> None:
    assert mask.pruned_count(sparsity, total) == removed  # half to even


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_outside_its_range_is_refused(sparsity: float) -> None:
    with pytest.raises(BadValue, match=r"outside \[0, 1\)"):
        mask.pruned_count(sparsity, 10)
