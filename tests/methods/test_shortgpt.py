"""ShortGPT: block influence against equation 1 of the paper, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from sparsity import gather
from sparsity.calibration import INFLUENCE
from sparsity.methods import METHODS
from sparsity.models.architecture import prunable_layers
from sparsity.pattern import EXAMPLES, parse
from sparsity.prune import Recipe, prune
from tests import tiny

CHANGES: dict[str, dict[str, Any]] = {"bert": {"num_hidden_layers": 4}, "gpt2": {"n_layer": 4}, "bart": {}}
"""Four blocks in each model."""


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def states_of_stacks(model: Any, inputs: dict[str, torch.Tensor]) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
    """For each stack the hidden states before, between and behind its blocks, and which positions hold text."""
    said = model(**inputs, output_hidden_states=True)
    mask = inputs["attention_mask"].bool()
    if model.config.is_encoder_decoder:  # a decoder's documents are as long as the encoder's in these batches
        return [(list(said.encoder_hidden_states), mask), (list(said.decoder_hidden_states), mask)]
    return [(list(said.hidden_states), mask)]


def influences(model: Any) -> list[float]:
    """1 - mean over real tokens of the cosine of what enters and what leaves, block by block."""
    if model.config.model_type == "gpt2":
        model.transformer.ln_f = torch.nn.Identity()  # else the last hidden state is behind it; no block hangs on it
    found: dict[tuple[int, int], list[float]] = {}
    for batch in tiny.batches(model):
        for stack, (states, mask) in enumerate(states_of_stacks(model, batch.inputs)):
            for i, (before, after) in enumerate(pairwise(states)):
                pairs = zip(before[mask].tolist(), after[mask].tolist(), strict=True)
                found.setdefault((stack, i), []).extend(cosine(a, b) for a, b in pairs)
    return [1 - math.fsum(cosines) / len(cosines) for _, cosines in sorted(found.items())]


def test_a_blocks_score_is_its_influence(family: str) -> None:
    model = tiny.model(family, torch.float64, **CHANGES[family])
    layers = prunable_layers(model)
    seeds = [(0, i) for i in range(len(layers))]
    known = gather.at_once(model, layers, tiny.batches(model), {INFLUENCE}, seeds)
    score = METHODS["shortgpt"].score
    assert score is not None
    sums: dict[int, float] = {}
    for layer, statistics in zip(layers, known, strict=True):
        sums[layer.block] = sums.get(layer.block, 0.0) + float(score(layer.weight, statistics).sum())
    matrices = {block: sum(layer.block == block for layer in layers) for block in sums}
    expected = influences(model)
    assert len(expected) == 4
    for block, influence in enumerate(expected):  # a block's matrices say it each, and stacks are of like blocks
        assert sums[block] == pytest.approx(matrices[block] * influence, rel=1e-9), block


def test_the_least_influential_block_of_each_stack_goes(family: str) -> None:
    model = tiny.model(family, **CHANGES[family])
    share = 0.5 if family == "bart" else 0.25  # one block of each stack
    pruned = prune(model, Recipe("shortgpt", share, "layers"), batches=tiny.batches(model))
    expected = influences(tiny.model(family, **CHANGES[family]))
    stacks = [range(2), range(2, 4)] if family == "bart" else [range(4)]
    gone = {min(stack, key=lambda block: expected[block]) for stack in stacks}
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        assert bool(mask.any()) == (layer.block not in gone), layer.name
        assert bool(mask.all()) == (layer.block not in gone), layer.name


@pytest.mark.parametrize("text", EXAMPLES)
def test_nothing_smaller_than_a_block(text: str) -> None:
    said = METHODS["shortgpt"].refuses(parse(text), parse(text).scopes[0])
    assert said == (None if text == "layers" else "shortgpt scores whole layers, and nothing smaller")
