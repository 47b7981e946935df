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


def rows_by_sorting(scores: torch.Tensor, count: int) -> list[list[bool]]:
    """The slow reference for rows: each is sorted by score, then by position."""
    masks = []
    for row in scores.tolist():
        highest_first = sorted((-score, place) for place, score in enumerate(row))
        kept = {place for _, place in highest_first[:count]}
        masks.append([place in kept for place in range(len(row))])
    return masks


GOLDEN_ROWS = [
    ([[3, 1, 2, 0], [0, 1, 2, 3]], 2, ["x.x.", "..xx"]),
    ([[1, 1, 1, 1], [0, 1, 1, 1]], 2, ["xx..", ".xx."]),  # of equals the earlier stays
    ([[2, 1, 1, 2], [1, 2, 2, 2]], 3, ["xx.x", ".xxx"]),
    ([[-1, -3, -2], [-2, -2, -1]], 1, ["x..", "..x"]),
    ([[0.0, -0.0, 0.0], [-0.0, 0.0, 0.0]], 2, ["xx.", "xx."]),  # both zeros are the same number
    ([[5, 7], [7, 5]], 0, ["..", ".."]),
    ([[5, 7], [7, 5]], 2, ["xx", "xx"]),
    ([[4], [0]], 1, ["x", "x"]),
]


@pytest.fixture(params=["rank", "threshold"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Rows of any length are chosen in one way alone."""
    name: str = request.param
    monkeypatch.setattr(mask, "FEW", 1000 if name == "rank" else 0)
    return name


@pytest.mark.parametrize(("scores", "count", "expected"), GOLDEN_ROWS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("way")
def test_golden_masks_of_rows(scores: list[list[float]], count: int, expected: list[str], dtype: torch.dtype) -> None:
    kept = mask.keep_highest_in_rows(torch.tensor(scores, dtype=dtype), count)
    assert kept.dtype == torch.bool
    assert ["".join(".x"[k] for k in row) for row in kept.tolist()] == expected


@settings(max_examples=150, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_rows_equal_a_stable_sort_of_each(data: st.DataObject, dtype: torch.dtype) -> None:
    value = data.draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-60000, 60000, width=16)]))
    competitors = data.draw(st.one_of(st.integers(1, 16), st.integers(17, 40)))  # ranked, and by threshold
    row = st.lists(value, min_size=competitors, max_size=competitors)
    scores = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=6)), dtype=dtype)
    count = data.draw(st.integers(0, competitors))
    assert mask.keep_highest_in_rows(scores, count).tolist() == rows_by_sorting(scores, count)


@pytest.mark.parametrize("competitors", [1, 2, 4, 15, 16, 17, 18, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_row_keeps_exactly_what_is_asked_whatever_the_ties(competitors: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(competitors)
    scores = torch.randint(0, 3, (50, competitors), generator=generator).to(dtype)
    scores[0] = 1.0
    for count in range(competitors + 1):
        kept = mask.keep_highest_in_rows(scores, count)
        assert kept.sum(1).tolist() == [count] * 50
        assert kept[0].tolist() == [True] * count + [False] * (competitors - count)


@pytest.mark.parametrize("competitors", [2, 4, 16, 17, 40])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ranks_and_thresholds_choose_the_same(
    competitors: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(60, competitors, generator=generator) * 2).round(decimals=1).to(dtype)
    for count in range(competitors + 1):
        masks = []
        for few in (0, competitors):
            monkeypatch.setattr(mask, "FEW", few)
            masks.append(mask.keep_highest_in_rows(scores, count))
        assert torch.equal(*masks)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("way")
def test_scores_in_a_row_that_differ_in_their_last_bit_are_told_apart(dtype: torch.dtype) -> None:
    order = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(row)) for row in range(6)])
    scores = 1 + order.to(dtype) * torch.finfo(dtype).eps
    for count in range(21):
        assert torch.equal(mask.keep_highest_in_rows(scores, count), order >= 20 - count)


def test_in_rows_more_sparsity_never_keeps_more() -> None:
    for competitors in (8, 24):
        scores = torch.randint(0, 5, (30, competitors), generator=torch.Generator().manual_seed(1)).float()
        before = mask.keep_highest_in_rows(scores, competitors)
        for count in range(competitors - 1, -1, -1):
            after = mask.keep_highest_in_rows(scores, count)
            assert not (after & ~before).any()
            before = after


def test_one_row_is_chosen_as_one_matrix_is() -> None:
    for competitors in (9, 90):
        scores = torch.randint(0, 4, (1, competitors), generator=torch.Generator().manual_seed(2)).float()
        for count in range(competitors + 1):
            assert torch.equal(mask.keep_highest_in_rows(scores, count), keep([scores], count)[0])


@pytest.mark.parametrize("competitors", [3, 20])
@pytest.mark.parametrize("chunk", [1, 7, 60, 61])
def test_rows_do_not_feel_where_a_chunk_ends(competitors: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask, "CHUNK", chunk)  # from less than a row to just all rows of three
    scores = torch.randint(0, 4, (20, competitors), generator=torch.Generator().manual_seed(3)).float()
    for count in range(competitors + 1):
        assert mask.keep_highest_in_rows(scores, count).tolist() == rows_by_sorting(scores, count)


@pytest.mark.parametrize("competitors", [5, 25])
def test_rows_need_not_lie_side_by_side_in_memory(competitors: int) -> None:
    scores = torch.randint(0, 4, (12, competitors), generator=torch.Generator().manual_seed(4)).float()
    every_other = torch.stack([scores, scores + 1], dim=2).view(12, -1)[:, ::2]
    for laid_out in (scores.t().contiguous().t(), every_other, scores[:1].expand(12, -1)):
        assert not laid_out.is_contiguous()
        before = laid_out.clone()
        kept = mask.keep_highest_in_rows(laid_out, 2)
        assert kept.shape == laid_out.shape
        assert kept.tolist() == rows_by_sorting(before, 2)
        assert torch.equal(laid_out, before)


@pytest.mark.parametrize("shape", [(0, 4), (0, 40), (3, 0)], ids=str)
def test_where_there_is_nothing_to_choose_the_mask_is_empty(shape: tuple[int, int]) -> None:
    assert mask.keep_highest_in_rows(torch.zeros(shape), 0).shape == shape


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("way")
def test_a_score_in_any_row_that_is_not_finite_is_refused(
    bad: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask, "CHUNK", 8)  # two rows at a time
    for row in range(5):
        scores = torch.ones(5, 4, dtype=dtype)
        scores[row, 2] = bad
        with pytest.raises(BadValue, match="NaN or infinite"):
            mask.keep_highest_in_rows(scores, 1)


@pytest.mark.parametrize("competitors", [3, 30])
def test_counts_outside_what_a_row_has_are_refused(competitors: int) -> None:
    for count in (-1, competitors + 1):
        with pytest.raises(BadValue, match=rf"cannot keep {count} of {competitors} scores"):
            mask.keep_highest_in_rows(torch.ones(2, competitors), count)
