"""Methods: golden choices, and what each promises of itself."""

from __future__ import annotations

import pytest
import torch

from sparsity.calibration import LayerStatistics
from sparsity.errors import Refused
from sparsity.methods import METHODS
from sparsity.methods.scored import Scored

WEIGHT = torch.tensor([[0.1, -0.9, 0.5, -0.2], [0.0, 0.3, -0.3, 0.7]])
KNOWN = LayerStatistics(seed=(1, 2))


def test_l1_keeps_the_largest_in_magnitude_and_the_earlier_of_equals() -> None:
    weight, mask = METHODS["l1"].prune_layer(WEIGHT, KNOWN, 0.5)
    assert mask.tolist() == [[False, True, True, False], [False, True, False, True]]
    assert torch.equal(weight, torch.where(mask, WEIGHT, 0.0))


def test_random_depends_on_seed_and_layer_alone() -> None:
    method = METHODS["random"]
    mask = method.prune_layer(WEIGHT, KNOWN, 0.5)[1]
    assert torch.equal(mask, method.prune_layer(WEIGHT * 7, KNOWN, 0.5)[1])
    others = [LayerStatistics(seed=(1, n)) for n in range(3, 30)] + [LayerStatistics(seed=(n, 2)) for n in range(2, 30)]
    assert any(not torch.equal(mask, method.prune_layer(WEIGHT, other, 0.5)[1]) for other in others[:27])
    assert any(not torch.equal(mask, method.prune_layer(WEIGHT, other, 0.5)[1]) for other in others[27:])


def test_random_is_fair() -> None:
    weight = torch.zeros(10, 10)
    kept = sum(METHODS["random"].prune_layer(weight, LayerStatistics(seed=(n, 0)), 0.5)[1].double() for n in range(400))
    assert isinstance(kept, torch.Tensor)
    assert kept.sum() == 400 * 50
    assert (kept - 200).abs().max() < 5 * 10, "each weight stays in half of the draws, within five deviations"


def test_none_keeps_everything_and_reaches_nothing_else() -> None:
    weight, mask = METHODS["none"].prune_layer(WEIGHT, KNOWN, 0.0)
    assert torch.equal(weight, WEIGHT)
    assert mask.all()
    with pytest.raises(Refused, match=r"cannot reach sparsity 0\.1"):
        METHODS["none"].prune_layer(WEIGHT, KNOWN, 0.1)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_leaves_the_weight_it_was_given_alone(name: str) -> None:
    before = WEIGHT.clone()
    METHODS[name].prune_layer(WEIGHT, KNOWN, 0.0 if name == "none" else 0.5)
    assert torch.equal(WEIGHT, before)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_said_to_draw_lots_does_and_the_rest_does_not(name: str) -> None:
    method, sparsity = METHODS[name], 0.0 if name == "none" else 0.5
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    masks = [method.prune_layer(weight, LayerStatistics(seed=(n, 0)), sparsity)[1] for n in range(4)]
    assert method.stochastic == any(not torch.equal(masks[0], other) for other in masks[1:])


def test_a_score_is_all_that_a_method_needs() -> None:
    method = Scored(lambda weight, statistics: -weight)
    assert method.prune_layer(WEIGHT, KNOWN, 0.75)[1].tolist() == [
        [False, True, False, False],
        [False, False, True, False],
    ]
