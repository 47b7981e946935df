"""How the values of a model are distributed, over all of it and in each tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.models.architecture import prunable_layers
from sparsity.record import LayerWeights, Weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BINS = 161
"""Odd, so that zero is the middle of a bin."""


def distribution(model: PreTrainedModel) -> Weights:
    """Counts of every parameter tensor over one common range, symmetric about zero; tied tensors once."""
    import torch

    prunable = {id(layer.module.weight) for layer in prunable_layers(model)}
    named = [(name, parameter, id(parameter) in prunable) for name, parameter in model.named_parameters()]
    extremes = [torch.aminmax(parameter) for _, parameter, _ in named]
    reach = max(max(-float(low), float(high)) for low, high in extremes) or 1.0
    layers = [
        _layer(name, parameter, is_prunable, float(low), float(high), reach)
        for (name, parameter, is_prunable), (low, high) in zip(named, extremes, strict=True)
    ]
    edges = [reach * (2 * i / BINS - 1) for i in range(BINS + 1)]
    return Weights(edges, layers)


def _layer(name: str, values: torch.Tensor, prunable: bool, low: float, high: float, reach: float) -> LayerWeights:
    import torch

    flat = values.detach().float().flatten().cpu()
    std, mean = torch.std_mean(flat, correction=0)
    # float32 counts are exact only up to 2^24, so large tensors are counted in parts.
    parts = [torch.histc(part, BINS, -reach, reach).long() for part in flat.split(1 << 24)]
    counts = torch.stack(parts).sum(0)
    return LayerWeights(name, prunable, flat.numel(), float(mean), float(std), low, high, counts.tolist())
