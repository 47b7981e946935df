"""Compact: smaller in every described family, and the same outputs as the masked dense model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparsity import pattern as patterns
from sparsity.bypass import bypass
from sparsity.errors import Refused
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS
from sparsity.groups import groups_of
from sparsity.models.architecture import blocks_of, prunable_layers
from sparsity.prune import PrunedModel, Recipe, prune
from sparsity.shrink import shapes_of
from tests import tiny
from tests.models.tiny import refusal

SCOPES = {"neurons": ("layer", "global"), "heads": ("layer", "global"), "layers": ("global",)}
SCOPES["neurons+heads"] = SCOPES["neurons"]
CELLS = [
    pytest.param(family, pattern, scope, id=f"{family}-{pattern}-{scope}")
    for family in tiny.DESCRIBED
    for pattern, scopes in SCOPES.items()
    for scope in scopes
    if not (family.startswith("t5") and "heads" in pattern)
]
GENERATING = ("gpt2", "bart", "opt", "llama", "mistral", "qwen2", "t5", "t5-gated")


def logits(model: Any) -> torch.Tensor:
    """Of a batch with padding, and of its real positions alone."""
    (batch,) = tiny.batches(model, 1)
    with torch.inference_mode():
        found: torch.Tensor = model(**batch.inputs).logits
    return found[batch.inputs["attention_mask"].bool()]


def pruned_by(family: str, recipe: Recipe, dtype: torch.dtype = torch.float64, **changes: Any) -> PrunedModel:
    model = tiny.model(family, dtype, **changes)
    return prune(model, recipe, batches=tiny.batches(model))


def by_hand(
    family: str, masked: Callable[[str], list[int]], dtype: torch.dtype = torch.float64, **changes: Any
) -> PrunedModel:
    """A model whose neurons and heads go as told: (name of the set) → the groups that go."""
    model = tiny.model(family, dtype, **changes)
    layers = prunable_layers(model)
    masks = [torch.ones_like(layer.weight, dtype=torch.bool) for layer in layers]
    kinds = ("neurons",) if family.startswith("t5") else ("neurons", "heads")
    for each in groups_of(model, layers, kinds):
        kept = torch.ones(each.count, dtype=torch.bool)
        kept[[g for g in masked(each.name) if g < each.count]] = False
        if each.kind == "heads" and each.count == 2:
            kept[1] = True  # one of the two must stay
        each.write(masks, kept)
    for layer, mask in zip(layers, masks, strict=True):
        layer.weight.masked_fill_(~mask, 0)
    sizes = sum(mask.numel() for mask in masks)
    return PrunedModel(model, Recipe("l1", 0.5, "neurons"), layers, masks, 0, sizes, sizes)


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("family", "pattern", "scope"), CELLS)
@pytest.mark.parametrize("multiple", [1, 8])
def test_equals_the_masked_dense_model_and_is_smaller(family: str, pattern: str, scope: str, multiple: int) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.5, pattern, scope, multiple=multiple))
    compact = in_format(pruned, "compact")
    assert relative_error(logits(compact), logits(pruned.model)) < 1e-10
    assert parameters(compact) < parameters(pruned.model)
    if "neurons" in pattern:
        widths = {block["neurons"] for stack in shapes_of(compact) for block in stack}
        assert all(width % multiple == 0 for width in widths)
        assert scope == "global" or widths == {16}


@pytest.mark.parametrize(("family", "pattern", "scope"), CELLS)
def test_float32_rounds_alike(family: str, pattern: str, scope: str) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.5, pattern, scope), torch.float32)
    assert relative_error(logits(in_format(pruned, "compact")), logits(pruned.model)) < 1e-5


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_attention_that_computes_its_own_scores_agrees(family: str) -> None:
    """Eager attention reshapes by attributes of the module that the fused kernels do without."""
    for pattern in ("neurons", "layers") if family.startswith("t5") else ("neurons+heads", "layers"):
        recipe = Recipe("l1", 0.5, pattern, "global")
        pruned = pruned_by(family, recipe, attn_implementation="eager")
        compact = in_format(pruned, "compact")
        assert compact.config._attn_implementation == "eager"
        assert relative_error(logits(compact), logits(pruned.model)) < 1e-10


@pytest.mark.parametrize("family", [family for family in tiny.DESCRIBED if not family.startswith("t5")])
def test_the_heads_that_are_left_are_those_that_show_their_attention(family: str) -> None:
    """What a removed head attends to is not given any more; what the others do is as it was."""
    pruned = by_hand(family, lambda name: [] if "feed-forward" in name else [0], attn_implementation="eager")
    compact = in_format(pruned, "compact")
    inputs = tiny.batches(pruned.model, 1)[0].inputs
    with torch.inference_mode():
        full, left = (m(**inputs, output_attentions=True) for m in (pruned.model, compact))
    names = [name for name in full if name.endswith("attentions") and full[name]]
    assert names
    per_group = 2 if family in ("llama", "mistral", "qwen2") else 1
    for name in names:
        assert len(full[name]) == len(left[name])
        for a, b in zip(full[name], left[name], strict=True):
            torch.testing.assert_close(a[:, per_group:], b)


@pytest.mark.parametrize("family", tiny.DESCRIBED)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_widths_may_differ_from_set_to_set(family: str, attention: str) -> None:
    """Each feed-forward part and each attention loses groups of its own, in odd numbers and places."""
    names: list[str] = []

    def chosen(name: str) -> list[int]:
        names.append(name)
        generator = torch.Generator().manual_seed(len(names))
        count = 32 if "feed-forward" in name else 4
        return torch.randperm(count, generator=generator)[: 1 + len(names) % (count - 1)].tolist()

    pruned = by_hand(family, chosen, attn_implementation=attention)
    compact = in_format(pruned, "compact")
    assert relative_error(logits(compact), logits(pruned.model)) < 1e-10
    blocks = [block for stack in shapes_of(compact) for block in stack]
    assert len({block["neurons"] for block in blocks}) == len(blocks)
    if not family.startswith("t5"):
        assert len({tuple(block["heads"]) for block in blocks}) > 1


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_weights_that_were_mended_are_the_ones_that_stay(family: str) -> None:
    pattern = "neurons" if family.startswith("t5") else "neurons+heads"
    pruned = pruned_by(family, Recipe("ziplm", 0.5, pattern))
    assert relative_error(logits(in_format(pruned, "compact")), logits(pruned.model)) < 1e-10


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_model_that_lost_nothing_is_as_large_as_before(family: str) -> None:
    pruned = prune(tiny.model(family), Recipe("l1", 0.0, "neurons"))
    compact = in_format(pruned, "compact")
    assert shapes_of(compact) == shapes_of(pruned.model)
    assert torch.equal(logits(compact), logits(pruned.model))


def one_pruned_row(family: str, path: str) -> PrunedModel:
    """Nothing reads a neuron that is nothing but a row of zeros: its bias still gives something."""
    model = tiny.model(family, torch.float64)
    layers = prunable_layers(model)
    masks = [torch.ones_like(layer.weight, dtype=torch.bool) for layer in layers]
    for layer, mask in zip(layers, masks, strict=True):
        if layer.name.endswith(path):
            mask[3] = False
            layer.weight[3] = 0
    return PrunedModel(model, Recipe("l1", 0.5, "neurons"), layers, masks, 0, 1, 1)


@pytest.mark.parametrize(("family", "path"), [("bert", "intermediate.dense"), ("gpt2", "mlp.c_fc"), ("opt", "fc1")])
def test_a_neuron_without_weights_of_its_own_stays_while_something_reads_it(family: str, path: str) -> None:
    pruned = one_pruned_row(family, path)
    for layer in pruned.layers:
        bias: Any = layer.module.bias
        bias.copy_(torch.linspace(-1, 1, len(bias)))
    compact = in_format(pruned, "compact")
    assert shapes_of(compact) == shapes_of(pruned.model)
    assert relative_error(logits(compact), logits(pruned.model)) < 1e-10


@pytest.mark.parametrize(("family", "path"), [("bert", "output.dense"), ("gpt2", "c_proj"), ("llama", "down_proj")])
def test_what_a_single_weight_reads_stays(family: str, path: str) -> None:
    model = tiny.model(family, torch.float64)
    layers = prunable_layers(model)
    masks = [torch.ones_like(layer.weight, dtype=torch.bool) for layer in layers]
    for layer, mask in zip(layers, masks, strict=True):
        if layer.name.endswith(path):
            mask[1:, 2:] = False
            mask[0, 4:] = False  # the first four inputs are read, two of them by the first output alone
            layer.weight.masked_fill_(~mask, 0)
    pruned = PrunedModel(model, Recipe("l1", 0.5, "neurons"), layers, masks, 0, 1, 1)
    compact = in_format(pruned, "compact")
    assert {block["neurons"] for stack in shapes_of(compact) for block in stack} == {4}
    assert relative_error(logits(compact), logits(model)) < 1e-10


@pytest.mark.parametrize("family", ["bert", "gpt2", "opt", "bart", "t5", "qwen2"])
def test_biases_of_what_goes_go_with_it_and_those_of_what_reads_it_stay(family: str) -> None:
    """Fresh models have biases of zero, which would hide one that is lost."""
    model = tiny.model(family, torch.float64)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    pattern = "neurons" if family == "t5" else "neurons+heads"
    for recipe in (Recipe("l1", 0.5, pattern), Recipe("l1", 0.5, "layers")):
        pruned = prune(model, recipe)
        assert relative_error(logits(in_format(pruned, "compact")), logits(pruned.model)) < 1e-10


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_whole_blocks_are_gone_with_their_norms_and_biases(family: str) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.5, "layers"))
    compact = in_format(pruned, "compact")
    gone, total = pruned.groups["layers"]
    assert gone
    fixed = 2 if family.startswith("t5") else 0
    assert len(blocks_of(compact)) == total - gone + fixed
    alive = {layer.block for layer, mask in zip(pruned.layers, pruned.masks, strict=True) if mask.any()}
    expected = sum(
        parameter.numel()
        for i, block in enumerate(blocks_of(pruned.model))
        if i not in alive
        for parameter in block.module.parameters()
    )
    assert parameters(pruned.model) - parameters(compact) == expected


def generated(model: Any, use_cache: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight tokens drawn behind each of two beginnings, and the logits they were drawn by."""
    inputs = {"input_ids": tiny.batches(model, 1)[0].inputs["input_ids"][:2, :5]}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if not model.config.is_encoder_decoder:  # padding on the left, as generation wants it
        inputs["attention_mask"][0, :2] = 0
    torch.manual_seed(0)  # drawn, because the likeliest token of a random model is always the same
    with torch.inference_mode():
        found = model.generate(
            **inputs, max_new_tokens=8, min_new_tokens=8, do_sample=True, use_cache=use_cache, pad_token_id=1,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    assert len(found.sequences.unique()) > 5
    return found.sequences, torch.stack(found.logits)


def assert_generate_alike(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert torch.equal(one[0], other[0])
    assert relative_error(one[1], other[1]) < 1e-10


@pytest.mark.parametrize(
    ("family", "pattern"),
    [
        (family, pattern)
        for family in GENERATING
        for pattern in ("neurons", "neurons+heads", "layers")
        if not (family.startswith("t5") and "heads" in pattern)
    ],
)
def test_generates_the_same_with_and_without_a_cache(family: str, pattern: str) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.5, pattern))
    compact = in_format(pruned, "compact")
    with_cache = generated(compact, True)
    assert_generate_alike(with_cache, generated(compact, False))
    assert_generate_alike(with_cache, generated(pruned.model, False))
    assert_generate_alike(with_cache, generated(pruned.model, True))


SLIDING = {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 4}


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
def test_a_block_with_a_window_keeps_it_wherever_it_moves(gone: int) -> None:
    model = tiny.model("qwen2", torch.float64, **SLIDING)
    layers = prunable_layers(model)
    masks = [torch.full_like(layer.weight, layer.block != gone, dtype=torch.bool) for layer in layers]
    bypass(blocks_of(model)[gone].module)
    pruned = PrunedModel(model, Recipe("l1", 0.25, "layers"), layers, masks, 0, 1, 1)
    compact = in_format(pruned, "compact")
    assert relative_error(logits(compact), logits(model)) < 1e-10
    assert_generate_alike(generated(compact, True), generated(model, False))


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4x1", "16x16"])
def test_single_weights_leave_nothing_to_take_out(pattern: str) -> None:
    recipe = Recipe("l1", 0.5, pattern)
    message = refusal(Refused, lambda: in_format(prune(tiny.model("bert"), recipe), "compact"))
    assert message == f"compact takes out whole neurons, heads and layers, and {pattern} zeros are single weights"


@pytest.mark.parametrize("pattern", SCOPES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_groups_can_be_taken_out_on_every_device_in_every_dtype(pattern: str, dtype: str, device: str) -> None:
    assert FORMATS["compact"].unsupported(patterns.parse(pattern), dtype, device) is None


def test_a_compact_model_can_be_pruned_again() -> None:
    first = in_format(pruned_by("llama", Recipe("l1", 0.25, "neurons")), "compact")
    again = prune(first, Recipe("l1", 0.5, "neurons+heads"))
    smaller = in_format(again, "compact")
    assert relative_error(logits(smaller), logits(again.model)) < 1e-10
    assert parameters(smaller) < parameters(first)
    assert smaller.config.intermediate_size == 12
    assert smaller.config.compact["before"]["intermediate_size"] == 32
