"""SparseGPT against algorithm 1 of the paper, written out in float64 with plain loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from sparsity.calibration import LayerStatistics
from sparsity.errors import BadValue
from sparsity.methods import METHODS
from sparsity.pattern import EXAMPLES, parse
from tests.methods import layers

BLOCK = 128
METHOD = METHODS["sparsegpt"]
Rows = Callable[[torch.Tensor], torch.Tensor]


def damped(x: torch.Tensor) -> torch.Tensor:
    """X X^T + lambda I, lambda 1 % of the mean of the diagonal; x is (tokens, in)."""
    hessian = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for token in x:
        hessian += torch.outer(token, token)
    return hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)


def by_cholesky(hessian: torch.Tensor) -> torch.Tensor:
    """The upper factor of the inverse, as the algorithm has it."""
    factor: torch.Tensor = torch.linalg.cholesky(torch.linalg.inv(hessian)).t()
    return factor


def by_submatrices(hessian: torch.Tensor) -> torch.Tensor:
    """What the factor stands for (section 3.3): row j is that of the inverse of what lies behind column j, scaled."""
    upper = torch.zeros_like(hessian)
    for j in range(len(hessian)):
        inverse = torch.linalg.inv(hessian[j:, j:])
        upper[j, j:] = inverse[0] / inverse[0, 0].sqrt()
    return upper


def prune(
    weight: torch.Tensor,
    upper: torch.Tensor,
    leave: Callable[[int, torch.Tensor], torch.Tensor | None],
    size: int = BLOCK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Algorithm 1: `leave(j, scores)` gives the mask of the columns from j on, where one is chosen at j."""
    w, (rows, columns) = weight.clone(), weight.shape
    mask = torch.ones(rows, columns, dtype=torch.bool)
    for start in range(0, columns, size):
        end = min(start + size, columns)
        errors = torch.zeros(rows, end - start, dtype=torch.float64)
        for j in range(start, end):
            chosen = leave(j, w[:, j:].square() / upper.diagonal()[j:].square())
            if chosen is not None:
                mask[:, j : j + chosen.shape[1]] = chosen
            errors[:, j - start] = torch.where(mask[:, j], 0.0, w[:, j] / upper[j, j])
            for k in range(j, end):
                w[:, k] -= errors[:, j - start] * upper[j, k]
        w[:, end:] -= errors @ upper[start:end, end:]
    return torch.where(mask, w, 0.0), mask


def lowest_of_block(removals: Sequence[int]) -> Callable[[int, torch.Tensor], torch.Tensor | None]:
    """In each block of columns so many of the lowest scores go."""

    def leave(j: int, scores: torch.Tensor) -> torch.Tensor | None:
        if j % BLOCK:
            return None
        block = scores[:, :BLOCK]
        mask = torch.ones(block.numel(), dtype=torch.bool)
        mask[sorted(range(block.numel()), key=block.flatten().tolist().__getitem__)[: removals[j // BLOCK]]] = False
        return mask.view(block.shape)

    return leave


def lowest_of_row(n: int, m: int) -> Callable[[int, torch.Tensor], torch.Tensor | None]:
    """In each row n of m columns stay."""

    def leave(j: int, scores: torch.Tensor) -> torch.Tensor | None:
        if j % m:
            return None
        mask = torch.zeros(len(scores), m, dtype=torch.bool)
        for row, of_row in enumerate(scores[:, :m].tolist()):
            mask[row, sorted(range(m), key=of_row.__getitem__)[m - n :]] = True
        return mask

    return leave


@pytest.mark.parametrize("factor", [by_cholesky, by_submatrices])
@pytest.mark.parametrize(
    ("rows", "columns", "sparsity"),
    [(6, 20, 0.5), (3, 16, 0.25), (1, 8, 0.5), (4, 128, 0.75), (2, 160, 0.5), (2, 257, 0.5)],
)
def test_masks_and_weights_are_those_of_the_algorithm(rows: int, columns: int, sparsity: float, factor: Rows) -> None:
    weight, x = layers.weight(rows, columns), layers.inputs(2 * columns, columns)
    shares = [sparsity * rows * (min(columns, start + BLOCK) - start) for start in range(0, columns, BLOCK)]
    removals = [int(share) for share in shares]
    assert removals == shares, "the paper's share of each block is a whole number here"
    expected, mask = prune(weight, factor(damped(x)), lowest_of_block(removals))
    chosen = METHOD.prune_layer(weight, layers.known(x), layers.target("unstructured", sum(removals)))
    assert torch.equal(chosen.mask, mask)
    torch.testing.assert_close(chosen.weight, expected, rtol=1e-8, atol=1e-10)
    assert chosen.note is None


@pytest.mark.parametrize("factor", [by_cholesky, by_submatrices])
@pytest.mark.parametrize(
    ("text", "n", "m", "columns"), [("2:4", 2, 4, 24), ("1:4", 1, 4, 24), ("2:4", 2, 4, 144), ("4:8", 4, 8, 136)]
)
def test_n_of_m_is_chosen_when_the_sweep_arrives_there(text: str, n: int, m: int, columns: int, factor: Rows) -> None:
    weight, x = layers.weight(4, columns), layers.inputs(2 * columns, columns)
    expected, mask = prune(weight, factor(damped(x)), lowest_of_row(n, m))
    chosen = METHOD.prune_layer(weight, layers.known(x), layers.target(text, m - n, per_row=True))
    assert torch.equal(chosen.mask, mask)
    torch.testing.assert_close(chosen.weight, expected, rtol=1e-8, atol=1e-10)
    at_first = METHODS["wanda"].prune_layer(weight, layers.known(x), layers.target(text, m - n, per_row=True)).mask
    assert not torch.equal(mask, at_first), "a choice that nothing corrected would not tell"


def test_blocks_end_where_an_m_ends() -> None:
    weight, x = layers.weight(3, 150), layers.inputs(300, 150)
    expected, mask = prune(weight, by_cholesky(damped(x)), lowest_of_row(2, 5), size=125)
    chosen = METHOD.prune_layer(weight, layers.known(x), layers.target("2:5", 3, per_row=True))
    assert torch.equal(chosen.mask, mask)
    torch.testing.assert_close(chosen.weight, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.37, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(("rows", "columns"), [(7, 130), (5, 127), (3, 300), (1, 129)])
def test_counts_are_exact_and_every_block_loses_its_share(rows: int, columns: int, sparsity: float) -> None:
    weight, x = layers.weight(rows, columns), layers.inputs(2 * columns, columns)
    remove = round(sparsity * rows * columns)
    chosen = METHOD.prune_layer(weight, layers.known(x), layers.target("unstructured", remove))
    assert int((~chosen.mask).sum()) == remove
    assert torch.equal(chosen.weight != 0, chosen.mask)
    of_block = [int((~part).sum()) for part in chosen.mask.split(BLOCK, dim=1)]
    for gone, part in zip(of_block, chosen.mask.split(BLOCK, dim=1), strict=True):
        assert abs(gone - remove / columns * part.shape[1]) < 1
    expected, mask = prune(weight, by_cholesky(damped(x)), lowest_of_block(of_block))
    assert torch.equal(chosen.mask, mask)
    torch.testing.assert_close(chosen.weight, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_coarser_weights_are_swept_in_float32(dtype: torch.dtype) -> None:
    x, target = layers.inputs(400, 160), layers.target("2:4", 2, per_row=True)
    weight = layers.weight(4, 160, dtype)
    coarse = METHOD.prune_layer(weight, layers.known(x), target)
    fine = METHOD.prune_layer(weight.float(), layers.known(x), target)
    exact = METHOD.prune_layer(weight.double(), layers.known(x), target)
    assert torch.equal(coarse.mask, fine.mask)
    assert torch.equal(coarse.weight, fine.weight.to(dtype)), "rounded once, at the end"
    assert torch.equal(fine.mask, exact.mask)
    torch.testing.assert_close(fine.weight.double(), exact.weight, rtol=1e-3, atol=1e-5)


def test_mending_leaves_less_error_than_removal_alone() -> None:
    weight, x = layers.weight(8, 160), layers.inputs(400, 160)
    chosen = METHOD.prune_layer(weight, layers.known(x), layers.target("unstructured", 640))
    mended, only_removed = ((weight - w) @ x.t() for w in (chosen.weight, torch.where(chosen.mask, weight, 0.0)))
    assert mended.square().sum() < 0.7 * only_removed.square().sum()


def test_too_few_tokens_are_noted_and_survived() -> None:
    chosen = METHOD.prune_layer(
        layers.weight(3, 12), layers.known(layers.inputs(5, 12)), layers.target("unstructured", 18)
    )
    assert chosen.note == "singular Hessian (5 tokens for 12 inputs), damped by 1% of its mean diagonal"
    assert chosen.weight.isfinite().all()
    assert int((~chosen.mask).sum()) == 18


def test_inputs_that_are_always_zero_are_noted_and_go_first() -> None:
    x = layers.inputs(50, 12)
    x[:, [1, 4]] = 0.0
    weight = layers.weight(3, 12)
    weight[:, [1, 4]] *= 1000
    chosen = METHOD.prune_layer(weight, layers.known(x), layers.target("unstructured", 6))
    assert chosen.note == "singular Hessian (2 inputs were always zero), damped by 1% of its mean diagonal"
    assert not chosen.mask[:, [1, 4]].any()
    others = [j for j in range(12) if j not in (1, 4)]
    assert chosen.mask[:, others].all()
    torch.testing.assert_close(chosen.weight[:, others], weight[:, others], rtol=1e-12, atol=0.0)


def test_a_matrix_that_is_no_hessian_is_damped_until_it_can_be_inverted() -> None:
    indefinite = LayerStatistics(tokens=9, hessian=torch.tensor([[1.0, 3.0], [3.0, 1.0]], dtype=torch.float64))
    chosen = METHOD.prune_layer(layers.weight(2, 2), indefinite, layers.target("unstructured", 2))
    assert chosen.note == "singular Hessian (not positive definite), damped by 1000% of its mean diagonal"
    assert chosen.weight.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused(value: float) -> None:
    x = layers.inputs(50, 12)
    x[7, 3] = value
    with pytest.raises(BadValue, match="not finite"):
        METHOD.prune_layer(layers.weight(3, 12), layers.known(x), layers.target("unstructured", 18))


@pytest.mark.parametrize("scope", ["row", "layer", "global", "erk", "owl"])
@pytest.mark.parametrize("text", EXAMPLES)
def test_what_one_sweep_can_do(text: str, scope: str) -> None:
    possible = {
        ("unstructured", "layer"),
        ("unstructured", "erk"),
        ("unstructured", "owl"),
        ("2:4", "row"),
        ("1:4", "row"),
    }
    if scope in parse(text).scopes:
        assert (METHOD.refuses(parse(text), scope) is None) == ((text, scope) in possible)
