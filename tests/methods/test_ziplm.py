"""ZipLM against the paper's greedy algorithm, every inverse and every least squares from scratch."""

from __future__ import annotations

import pytest
import torch

from sparsity.errors import Refused
from sparsity.methods import METHODS
from sparsity.methods.protocol import ChosenGroups
from sparsity.methods.ziplm import ROUNDS
from sparsity.pattern import EXAMPLES, parse
from tests.methods import layers

COLUMNS = {
    "neurons": torch.arange(24)[:, None],
    "heads": torch.arange(24).view(6, 4),
    "scattered": torch.arange(24).view(4, 6).t().contiguous(),
}
"""Groups of 24 inputs: single ones, runs of four, and four that lie apart."""


def prune(weight: torch.Tensor, x: torch.Tensor, columns: torch.Tensor, remove: int) -> ChosenGroups:
    prune_groups = METHODS["ziplm"].prune_groups
    assert prune_groups is not None
    return prune_groups(weight, layers.known(x), columns, remove)


def damping(x: torch.Tensor) -> float:
    """1 % of the mean of the diagonal of X X^T."""
    return 0.01 * float(x.square().sum(0).mean())


def greedy(weight: torch.Tensor, x: torch.Tensor, columns: torch.Tensor, remove: int) -> tuple[torch.Tensor, list[int]]:
    """Section 3.1: at each step invert what remains, drop the cheapest group, update the others by its formula."""
    hessian = x.t() @ x + damping(x) * torch.eye(x.shape[1], dtype=torch.float64)
    w, left, gone = weight.clone(), list(range(len(columns))), []
    for _ in range(remove):
        inputs = sorted(int(j) for group in left for j in columns[group])
        inverse = torch.linalg.inv(hessian[inputs][:, inputs])
        costs = {}
        for group in left:
            at = [inputs.index(int(j)) for j in columns[group]]
            corner = torch.linalg.inv(inverse[at][:, at])
            costs[group] = sum(float(row[columns[group]] @ corner @ row[columns[group]]) for row in w)
        worst = min(left, key=costs.__getitem__)
        at = [inputs.index(int(j)) for j in columns[worst]]
        update = torch.linalg.inv(inverse[at][:, at]) @ inverse[at]
        for row in w:
            row[inputs] -= row[columns[worst]] @ update
        w[:, columns[worst]] = 0.0
        left.remove(worst)
        gone.append(worst)
    return w, gone


def least_squares(weight: torch.Tensor, x: torch.Tensor, stay: list[int]) -> torch.Tensor:
    """The weights of these inputs that come nearest to the whole layer's outputs, damped; by QR, without a Hessian."""
    ridge = damping(x) ** 0.5 * torch.eye(x.shape[1], dtype=torch.float64)
    rows = torch.cat([x, ridge])
    best = torch.zeros_like(weight)
    best[:, stay] = torch.linalg.lstsq(rows[:, stay], rows @ weight.t()).solution.t()
    return best


def error(weight: torch.Tensor, other: torch.Tensor, x: torch.Tensor) -> float:
    """Of the outputs, damped as the Hessian is."""
    apart = weight - other
    return float((apart @ x.t()).square().sum() + damping(x) * apart.square().sum())


@pytest.mark.parametrize("remove_share", [1 / 6, 1 / 2, 5 / 6])
@pytest.mark.parametrize("kind", COLUMNS)
def test_groups_and_weights_are_those_of_the_greedy_algorithm(kind: str, remove_share: float) -> None:
    weight, x, columns = layers.weight(10, 24), layers.inputs(80, 24), COLUMNS[kind]
    remove = round(remove_share * len(columns))
    expected, gone = greedy(weight, x, columns, remove)
    chosen = prune(weight, x, columns, remove)
    assert (~chosen.kept).nonzero().flatten().tolist() == sorted(gone)
    torch.testing.assert_close(chosen.weight, expected, rtol=1e-8, atol=1e-10)
    assert chosen.note is None


@pytest.mark.parametrize("kind", COLUMNS)
def test_each_group_that_goes_is_the_one_the_output_misses_least(kind: str) -> None:
    weight, x, columns = layers.weight(10, 24), layers.inputs(80, 24), COLUMNS[kind]
    kept = torch.ones(len(columns), dtype=torch.bool)
    for remove in range(1, len(columns) // 2 + 1):
        errors = {}
        for group in kept.nonzero().flatten().tolist():  # try each one, and mend as well as can be
            stay = columns[kept & (torch.arange(len(kept)) != group)].flatten().tolist()
            errors[group] = error(weight, least_squares(weight, x, stay), x)
        kept[min(errors, key=errors.__getitem__)] = False
        assert torch.equal(prune(weight, x, columns, remove).kept, kept), remove


@pytest.mark.parametrize(
    ("inputs", "members", "remove"), [(24, 1, 13), (24, 4, 3), (200, 1, 130), (200, 1, 65), (160, 2, 70)]
)
def test_what_stays_makes_up_for_what_went_as_well_as_can_be(inputs: int, members: int, remove: int) -> None:
    weight, x = layers.weight(6, inputs), layers.inputs(2 * inputs, inputs)
    columns = torch.arange(inputs).view(-1, members)
    assert (remove > ROUNDS) == (inputs > 24), "one at a time, and several"
    chosen = prune(weight, x, columns, remove)
    assert int((~chosen.kept).sum()) == remove
    stay = columns[chosen.kept].flatten().tolist()
    assert not chosen.weight[:, columns[~chosen.kept].flatten()].any()
    best = least_squares(weight, x, stay)
    torch.testing.assert_close(chosen.weight, best, rtol=1e-7, atol=1e-9)
    undamped = torch.linalg.lstsq(x[:, stay], x @ weight.t()).solution.t()
    least = (x @ weight.t() - x[:, stay] @ undamped.t()).square().sum()
    assert least <= (x @ (weight - chosen.weight).t()).square().sum() < 1.05 * least, (
        "and damping costs next to nothing"
    )


def test_without_removal_nothing_changes() -> None:
    weight, x = layers.weight(10, 24), layers.inputs(80, 24)
    chosen = prune(weight, x, COLUMNS["heads"], 0)
    assert torch.equal(chosen.weight, weight)
    assert chosen.kept.all()


@pytest.mark.parametrize("kind", COLUMNS)
def test_of_a_layer_that_loses_everything_nothing_is_left(kind: str) -> None:
    chosen = prune(layers.weight(10, 24), layers.inputs(80, 24), COLUMNS[kind], len(COLUMNS[kind]))
    assert not chosen.weight.any()
    assert not chosen.kept.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", COLUMNS)
def test_coarser_weights_are_mended_in_float64(kind: str, dtype: torch.dtype) -> None:
    weight, x, columns = layers.weight(10, 24, dtype), layers.inputs(80, 24), COLUMNS[kind]
    coarse, exact = (prune(w, x, columns, len(columns) // 2) for w in (weight, weight.double()))
    assert torch.equal(coarse.kept, exact.kept)
    assert torch.equal(coarse.weight, exact.weight.to(dtype)), "rounded once, at the end"


def test_the_same_is_chosen_again_and_of_equal_groups_the_first_goes() -> None:
    weight, x = torch.ones(3, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    first, again = (prune(weight, x, torch.arange(8)[:, None], 3) for _ in range(2))
    assert first.kept.tolist() == [False] * 3 + [True] * 5
    assert torch.equal(first.kept, again.kept)
    assert torch.equal(first.weight, again.weight)


@pytest.mark.parametrize("kind", COLUMNS)
def test_too_few_tokens_are_noted_and_survived(kind: str) -> None:
    chosen = prune(layers.weight(10, 24), layers.inputs(7, 24), COLUMNS[kind], len(COLUMNS[kind]) // 2)
    assert chosen.note == "singular Hessian (7 tokens for 24 inputs), damped by 1% of its mean diagonal"
    assert chosen.weight.isfinite().all()


def test_a_neuron_that_never_fires_is_noted_and_goes_first() -> None:
    x, weight = layers.inputs(80, 24), layers.weight(10, 24)
    x[:, 5] = 0.0
    weight[:, 5] = 100.0
    chosen = prune(weight, x, COLUMNS["neurons"], 1)
    assert chosen.note == "singular Hessian (1 inputs were always zero), damped by 1% of its mean diagonal"
    assert (~chosen.kept).nonzero().tolist() == [[5]]
    others = [j for j in range(24) if j != 5]
    torch.testing.assert_close(chosen.weight[:, others], weight[:, others], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("text", EXAMPLES)
def test_neurons_and_heads_layer_by_layer_and_nothing_else(text: str) -> None:
    refuses = METHODS["ziplm"].refuses
    assert (refuses(parse(text), "layer") is None) == (text in ("neurons", "heads", "neurons+heads"))
    assert refuses(parse(text), "global") is not None


def test_single_weights_are_refused() -> None:
    with pytest.raises(Refused, match="ziplm removes neurons and heads, not 2:4"):
        METHODS["ziplm"].prune_layer(layers.weight(4, 8), layers.known(layers.inputs(20, 8)), layers.target("2:4", 2))
