"""Floating-point operations: two for each multiply-add of a matrix product, whatever the values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sparsity import workload
from sparsity.execution import in_format
from sparsity.measure.flops import flops
from sparsity.prune import Recipe, prune
from tests import tiny


def test_a_product_of_matrices_is_counted_exactly() -> None:
    layer, x = nn.Linear(5, 3), torch.ones(7, 5)
    assert flops(lambda: layer(x)) == 2 * 7 * 5 * 3


def test_zeros_are_multiplied_like_any_number() -> None:
    layer, x = nn.Linear(5, 3), torch.ones(7, 5)
    layer.weight.data.zero_()
    assert flops(lambda: layer(x)) == 2 * 7 * 5 * 3


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_two_products_of_each_head(causal: bool) -> None:
    """Torch itself counts none on a CPU."""
    query, key, value = (
        torch.ones(2, 4, 7, 8),
        torch.ones(2, 4, 7 if causal else 9, 8),
        torch.ones(2, 4, 7 if causal else 9, 8),
    )
    positions = key.shape[2]
    counted = flops(lambda: nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal))
    assert counted == 2 * (2 * 4 * 7 * positions * 8) * 2


def test_a_call_that_multiplies_nothing_has_none() -> None:
    assert flops(lambda: torch.ones(3) + 1) == 0


def test_a_compact_model_makes_fewer_by_exactly_what_it_lost() -> None:
    model: Any = tiny.model("gpt2")
    pruned = prune(model, Recipe("l1", 0.5, "neurons"))
    fed = workload.parse("2x8")
    dense, compact = (flops(workload.call(fed, each)) for each in (model, in_format(pruned, "compact")))
    tokens = fed.batch * fed.length
    assert dense - compact == 2 * tokens * pruned.removed
