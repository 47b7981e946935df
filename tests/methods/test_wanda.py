"""Wanda against the paper's equation 1, written out weight by weight."""

from __future__ import annotations

import math

import pytest
import torch

from sparsity.methods import METHODS
from sparsity.pattern import parse
from tests.methods import layers


def reference(weight: list[list[float]], x: list[list[float]], width: int, stay: int) -> list[list[bool]]:
    """Of every `width` weights of a row, the `stay` with the largest |w_ij| * ||x_j|| over all tokens."""
    norms = [math.sqrt(math.fsum(token[j] ** 2 for token in x)) for j in range(len(x[0]))]
    mask = []
    for row in weight:
        kept = [False] * len(row)
        for start in range(0, len(row), width):
            here = range(start, start + width)
            for j in sorted(here, key=lambda j, row=row: -abs(row[j]) * norms[j])[:stay]:  # type: ignore[misc]  # mypy knows no default of a lambda
                kept[j] = True
        mask.append(kept)
    return mask


@pytest.mark.parametrize(
    ("text", "remove", "width", "stay"),
    [
        ("unstructured", 12, 24, 12),
        ("unstructured", 21, 24, 3),
        ("unstructured", 1, 24, 23),
        ("unstructured", 0, 24, 24),
        ("2:4", 2, 4, 2),
        ("1:4", 3, 4, 1),
        ("4:8", 4, 8, 4),
    ],
)
def test_each_row_keeps_what_the_paper_keeps(text: str, remove: int, width: int, stay: int) -> None:
    weight, x = layers.weight(10, 24), layers.inputs(50, 24)
    chosen = METHODS["wanda"].prune_layer(weight, layers.known(x), layers.target(text, remove, per_row=True))
    assert chosen.mask.tolist() == reference(weight.tolist(), x.tolist(), width, stay)
    assert torch.equal(chosen.pruned, torch.where(chosen.mask, weight, 0.0))


def test_inputs_decide_and_not_magnitude_alone() -> None:
    weight, x = layers.weight(10, 24), layers.inputs(50, 24)
    half = layers.target("unstructured", 12, per_row=True)
    of_magnitude = METHODS["l1"].prune_layer(weight, layers.known(x), half).mask
    assert not torch.equal(METHODS["wanda"].prune_layer(weight, layers.known(x), half).mask, of_magnitude)
    alike = layers.known(x / x.square().sum(0).sqrt())
    assert torch.equal(METHODS["wanda"].prune_layer(weight, alike, half).mask, of_magnitude)


def test_a_layer_competes_by_the_same_score() -> None:
    weight, x = layers.weight(10, 24), layers.inputs(50, 24)
    mask = METHODS["wanda"].prune_layer(weight, layers.known(x), layers.target("unstructured", 120)).mask
    flat = [
        abs(w) * math.sqrt(math.fsum(t[j] ** 2 for t in x.tolist()))
        for row in weight.tolist()
        for j, w in enumerate(row)
    ]
    threshold = sorted(flat)[120]
    assert mask.flatten().tolist() == [score >= threshold for score in flat]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_norms_that_half_precision_cannot_hold(dtype: torch.dtype) -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=dtype)
    known = layers.known(torch.tensor([[4e5, 3e5, 1e5, 1e5]], dtype=torch.float64))
    mask = METHODS["wanda"].prune_layer(weight, known, layers.target("unstructured", 2, per_row=True)).mask
    assert mask.tolist() == [[True, True, False, False]]  # 4e5, 6e5, 3e5 and 4e5, of which the earlier stays


def test_whole_blocks_are_refused() -> None:
    refuses = METHODS["wanda"].refuses
    assert "use shortgpt" in str(refuses(parse("layers"), "global"))
    assert all(refuses(parse(text), "row") is None for text in ("unstructured", "2:4", "4x1"))
