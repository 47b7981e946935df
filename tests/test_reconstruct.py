"""Reconstruction: the kept weights are the least-squares solution, never worse than before, and zeros stay zeros."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity import gather, reconstruct
from sparsity.calibration import HESSIAN
from sparsity.errors import BadValue, Refused
from sparsity.hessian import DAMPING
from sparsity.models.architecture import prunable_layers
from sparsity.prune import Recipe, prune
from sparsity.reconstruct import solve
from sparsity.tasks.batching import Batch
from tests import tiny
from tests.models.tiny import refusal


def problem(seed: int, rows: int, columns: int, tokens: int, share: float) -> tuple[torch.Tensor, ...]:
    """A dense weight, a mask and a Hessian of correlated inputs; all float64."""
    chance = torch.Generator().manual_seed(seed)
    mixed = torch.randn(columns, columns, generator=chance, dtype=torch.float64)
    x = torch.randn(tokens, columns, generator=chance, dtype=torch.float64) @ mixed
    dense = torch.randn(rows, columns, generator=chance, dtype=torch.float64)
    mask = torch.rand(rows, columns, generator=chance) < share
    return dense, mask, x.t() @ x


def damped(hessian: torch.Tensor) -> torch.Tensor:
    return hessian + DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=hessian.dtype)


def error(weight: torch.Tensor, dense: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """Of each row."""
    apart = (weight - dense).double()
    return ((apart @ hessian) * apart).sum(1)


def exact(dense: torch.Tensor, mask: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """Row by row: H_kk w_k = H_k: d."""
    found = torch.zeros_like(dense)
    for row, keep in enumerate(mask):
        if bool(keep.any()):
            found[row, keep] = torch.linalg.solve(hessian[keep][:, keep], hessian[keep] @ dense[row])
    return found


problems = st.tuples(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 12), st.integers(1, 30), st.floats(0.0, 1.0)
)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("columns", "tokens"), [(8, 100), (24, 200), (24, 10), (60, 30)])
def test_the_solution_is_least_squares(seed: int, columns: int, tokens: int) -> None:
    dense, mask, hessian = problem(seed, 5, columns, tokens, 0.5)
    found, best = solve(dense * mask, mask, dense, hessian), exact(dense, mask, damped(hessian))
    before, after, least = (error(weight, dense, damped(hessian)) for weight in (dense * mask, found, best))
    assert bool((after - least <= 1e-6 * before).all())
    torch.testing.assert_close(found, best, rtol=0, atol=1e-3 * float(best.abs().max()))


@pytest.mark.parametrize("seed", range(8))
def test_with_patience_it_is_exactly_that(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruct, "ENOUGH", 1e-12)
    monkeypatch.setattr(reconstruct, "ITERATIONS", 1000)
    dense, mask, hessian = problem(seed, 5, 24, 200, 0.5)
    found, best = solve(dense * mask, mask, dense, hessian), exact(dense, mask, damped(hessian))
    torch.testing.assert_close(found, best, rtol=1e-6, atol=1e-9)


def test_by_hand() -> None:
    """x1 = x2 always: the one that stays does the work of both, but for the damping."""
    hessian = torch.ones(2, 2, dtype=torch.float64)
    dense, mask = torch.tensor([[2.0, 3.0]]), torch.tensor([[True, False]])
    found = solve(dense * mask, mask, dense, hessian)
    assert found[0, 0] == pytest.approx((2 * (1 + DAMPING) + 3) / (1 + DAMPING))
    assert found[0, 1] == 0


@settings(max_examples=200, deadline=None)
@given(problems)
def test_the_error_never_grows(given_problem: tuple[int, int, int, int, float]) -> None:
    """Of the outputs on the calibration inputs themselves, without damping, however singular they are."""
    dense, mask, hessian = problem(*given_problem)
    before, after = (error(w, dense, hessian) for w in (dense * mask, solve(dense * mask, mask, dense, hessian)))
    assert bool((after <= before + 1e-9 * hessian.diagonal().sum()).all())


@settings(max_examples=100, deadline=None)
@given(problems)
def test_from_any_start_the_damped_error_never_grows(given_problem: tuple[int, int, int, int, float]) -> None:
    dense, mask, hessian = problem(*given_problem)
    start = torch.where(mask, dense.roll(1, 0) - 0.5, 0.0)
    found = solve(start, mask, dense, hessian)
    before, after = (error(weight, dense, damped(hessian)) for weight in (start, found))
    assert bool((after <= before * (1 + 1e-9) + 1e-9 * hessian.diagonal().sum()).all())


@settings(max_examples=100, deadline=None)
@given(problems, st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_zeros_stay_exactly_zero(given_problem: tuple[int, int, int, int, float], dtype: torch.dtype) -> None:
    dense, mask, hessian = problem(*given_problem)
    found = solve((dense * mask).to(dtype), mask, dense.to(dtype), hessian)
    assert found.dtype == dtype
    assert found.shape == dense.shape
    gone = found[~mask]
    assert bool((gone == 0).all())
    assert not bool(torch.signbit(gone).any())
    assert bool(torch.isfinite(found).all())


@given(problems)
def test_nothing_removed_is_nothing_changed(given_problem: tuple[int, int, int, int, float]) -> None:
    dense, mask, hessian = problem(*given_problem)
    whole = torch.ones_like(mask)
    assert torch.equal(solve(dense, whole, dense, hessian), dense)
    assert torch.equal(solve(torch.zeros_like(dense), ~whole, dense, hessian), torch.zeros_like(dense))


@pytest.mark.parametrize("dead", [slice(0, 4), slice(0, 7), slice(0, 8)], ids=str)
def test_inputs_that_are_always_zero_do_no_harm(dead: slice) -> None:
    dense, mask, hessian = problem(0, 5, 8, 50, 0.5)
    hessian[dead] = 0
    hessian[:, dead] = 0
    found = solve(dense * mask, mask, dense, hessian)
    assert bool(torch.isfinite(found).all())
    assert torch.equal(found[:, dead], (dense * mask)[:, dead]), "what reads nothing is left as it is"
    assert bool((error(found, dense, hessian) <= error(dense * mask, dense, hessian) + 1e-9).all())


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_the_size_of_the_inputs_says_nothing(scale: float) -> None:
    dense, mask, hessian = problem(1, 5, 12, 50, 0.5)
    found = solve(dense * mask, mask, dense, hessian)
    torch.testing.assert_close(solve(dense * mask, mask, dense, hessian * scale), found, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused(value: float) -> None:
    dense, mask, hessian = problem(0, 3, 6, 20, 0.5)
    hessian[2, 3] = value
    assert "not finite" in refusal(BadValue, lambda: solve(dense * mask, mask, dense, hessian))


def errors(dense: Any, weights: list[list[torch.Tensor]], batches: list[Batch]) -> list[list[float]]:
    """What each layer's outputs lack with some weights, in unpruned blocks behind blocks with the last of them."""
    model = copy.deepcopy(dense)
    layers, wanted = prunable_layers(model), prunable_layers(dense)
    found: list[list[float]] = [[]] * len(layers)
    for block in gather.in_sequence(model, layers, batches, {HESSIAN}, [(0, i) for i in range(len(layers))]):
        for i, known in block:
            assert known.hessian is not None
            found[i] = [float(error(each[i], wanted[i].weight, known.hessian).sum()) for each in weights]
            layers[i].weight.copy_(weights[-1][i])
    return found


@pytest.mark.parametrize("family", tiny.DESCRIBED)
@pytest.mark.parametrize(
    "recipe",
    [Recipe("l1", 0.5), Recipe("l1", 0.5, "2:4"), Recipe("l1", 0.5, "neurons"), Recipe("l1", 0.5, "layers")],
    ids=str,
)
def test_the_layers_of_a_model_come_nearer_to_the_dense_ones(family: str, recipe: Recipe) -> None:
    dense, model = tiny.model(family, torch.float64), tiny.model(family, torch.float64)
    batches = tiny.batches(model)
    pruned = prune(model, recipe)
    before = [layer.weight.clone() for layer in pruned.layers]
    vectors = {name: p.clone() for name, p in model.named_parameters() if p.dim() == 1}
    reconstruct.reconstruct(model, pruned.layers, pruned.masks, prunable_layers(dense), batches)
    after = [layer.weight for layer in pruned.layers]
    told = errors(dense, [before, after], batches)
    for layer, mask, old, (was, now) in zip(pruned.layers, pruned.masks, before, told, strict=True):
        assert bool((layer.weight[~mask] == 0).all()), layer.name
        some_went = bool((~mask & mask.any(1, keepdim=True)).any())  # of a row that has others
        assert torch.equal(layer.weight, old) != some_went, layer.name
        assert (now < was) == some_went, layer.name
    assert all(torch.equal(vectors[name], p) for name, p in model.named_parameters() if p.dim() == 1)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_ziplm_mended_is_as_good_as_it_gets(family: str) -> None:
    """Both solve the same least squares; in a block without what made its inputs there would be nothing to solve."""
    dense, model = tiny.model(family, torch.float64), tiny.model(family, torch.float64)
    batches = tiny.batches(model)
    pruned = prune(model, Recipe("ziplm", 0.5, "neurons+heads"), batches=batches)
    before = [layer.weight.clone() for layer in pruned.layers]
    reconstruct.reconstruct(model, pruned.layers, pruned.masks, prunable_layers(dense), batches)
    for layer, old in zip(pruned.layers, before, strict=True):
        torch.testing.assert_close(layer.weight, old, rtol=0, atol=1e-3 * float(old.abs().max()))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_dense_model_has_nothing_to_mend(family: str) -> None:
    model = tiny.model(family)
    before = tiny.state(model)
    masks = [torch.ones_like(layer.weight, dtype=torch.bool) for layer in prunable_layers(model)]
    dense = prunable_layers(tiny.model(family))
    reconstruct.reconstruct(model, prunable_layers(model), masks, dense, tiny.batches(model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_encoder_decoder_that_is_not_described_is_refused() -> None:
    import transformers

    config = transformers.MarianConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    model = transformers.MarianMTModel(config).eval()
    layers = prunable_layers(model)
    masks = [torch.ones_like(layer.weight, dtype=torch.bool) for layer in layers]
    refusal(Refused, lambda: reconstruct.reconstruct(model, layers, masks, layers, tiny.batches(model)))
