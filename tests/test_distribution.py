"""Weight distributions: every value counted once, over one common range."""

from __future__ import annotations

import pytest
import torch

from sparsity.distribution import BINS, distribution
from sparsity.models.architecture import prunable_layers
from tests import tiny


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_value_is_counted_in_the_bin_it_belongs_to(family: str) -> None:
    model = tiny.model(family)
    weights = distribution(model)
    assert len(weights.edges) == BINS + 1
    parameters = dict(model.named_parameters())
    assert [layer.name for layer in weights.layers] == list(parameters)
    edges = torch.tensor(weights.edges)
    for layer in weights.layers:
        values = parameters[layer.name].detach().flatten()
        assert sum(layer.counts) == layer.parameters == values.numel()
        assert layer.minimum == values.min().item()
        assert layer.maximum == values.max().item()
        assert layer.mean == pytest.approx(values.mean().item(), abs=1e-6)
        assert layer.std == pytest.approx(values.std(correction=0).item(), abs=1e-6)
        expected = torch.bucketize(values, edges[1:-1], right=True).bincount(minlength=BINS)
        apart = int((expected - torch.tensor(layer.counts)).abs().sum())
        assert apart <= 0.01 * values.numel() + 2, "beyond values that lie on an edge"


def test_tied_tensors_count_once_and_prunable_ones_are_marked() -> None:
    model = tiny.model("gpt2")
    weights = distribution(model)
    unique = {p.data_ptr(): p.numel() for p in model.parameters()}
    assert sum(layer.parameters for layer in weights.layers) == sum(unique.values())
    marked = {layer.name for layer in weights.layers if layer.prunable}
    assert marked == {f"{layer.name}.weight" for layer in prunable_layers(model)}


def test_a_model_of_zeros_has_a_distribution_too() -> None:
    model = tiny.model("bert")
    for parameter in model.parameters():
        parameter.zero_()
    weights = distribution(model)
    assert all(layer.counts[BINS // 2] == layer.parameters for layer in weights.layers)
