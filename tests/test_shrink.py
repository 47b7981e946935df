"""A smaller model: what stays of its tensors, and attributes and configuration that follow."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from sparsity.errors import Refused
from sparsity.models.architecture import blocks_of, prunable_layers
from sparsity.shrink import drop_blocks, follow_config, group_sets, shapes_of, shrink_groups, to_shapes
from tests import tiny

WITH_HEADS = [family for family in tiny.DESCRIBED if not family.startswith("t5")]


def block_of(heads: list[int], neurons: int) -> dict[str, Any]:
    return {"heads": heads, "neurons": neurons}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**tiny.batches(model, 1)[0].inputs).logits
    return found


def shrunk(model: Any, **gone: list[int]) -> Any:
    """The model without these groups of every set, by kind."""
    layers = prunable_layers(model)
    sets = group_sets(model, layers)
    kept = []
    for each in sets:
        stays = torch.ones(each.count, dtype=torch.bool)
        stays[gone.get(each.kind, [])] = False
        kept.append(stays)
    shrink_groups(model, layers, sets, kept)
    return model


FULL: dict[str, list[list[dict[str, Any]]]] = {
    "bert": [[block_of([4], 32)] * 2],
    "roberta": [[block_of([4], 32)] * 3],
    "distilbert": [[block_of([4], 32)] * 3],
    "gpt2": [[block_of([4], 32)] * 2],
    "opt": [[block_of([4], 32)] * 4],
    "llama": [[block_of([2], 32)] * 4],  # key-value heads
    "mistral": [[block_of([2], 32)] * 4],
    "qwen2": [[block_of([2], 32)] * 4],
    "bart": [[block_of([4], 32)] * 2, [block_of([4, 4], 32)] * 2],
    "t5": [[block_of([4], 32)] * 3, [block_of([4, 4], 32)] * 3],
    "t5-gated": [[block_of([4], 32)] * 4, [block_of([4, 4], 32)] * 4],
}


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_the_shapes_of_a_whole_model_are_those_of_its_configuration(family: str) -> None:
    assert shapes_of(tiny.model(family)) == FULL[family]


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_model_that_loses_nothing_keeps_its_tensors(family: str) -> None:
    model = tiny.model(family)
    modules, before = list(model.modules()), tiny.state(model)
    shrunk(model)
    assert list(model.modules()) == modules
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_rows_and_columns_that_stay_are_those_of_the_model_in_their_order() -> None:
    model = tiny.model("gpt2")
    was = tiny.state(model)
    shrunk(model, heads=[1, 2], neurons=[0, 31])
    block = model.transformer.h[1]
    own = [0, 1, 2, 3, 12, 13, 14, 15]
    packed = [*own, *(16 + i for i in own), *(32 + i for i in own)]
    path = "transformer.h.1."
    assert torch.equal(block.attn.c_attn.weight, was[f"{path}attn.c_attn.weight"][:, packed])
    assert torch.equal(block.attn.c_attn.bias, was[f"{path}attn.c_attn.bias"][packed])
    assert torch.equal(block.attn.c_proj.weight, was[f"{path}attn.c_proj.weight"][own])
    assert torch.equal(block.attn.c_proj.bias, was[f"{path}attn.c_proj.bias"])
    assert torch.equal(block.mlp.c_fc.weight, was[f"{path}mlp.c_fc.weight"][:, 1:31])
    assert torch.equal(block.mlp.c_fc.bias, was[f"{path}mlp.c_fc.bias"][1:31])
    assert torch.equal(block.mlp.c_proj.weight, was[f"{path}mlp.c_proj.weight"][1:31])
    assert block.attn.c_attn.nf == 24
    assert block.attn.c_proj.nx == 8


@pytest.mark.parametrize("family", WITH_HEADS)
def test_layers_stay_what_they_were_in_kind_bias_dtype_and_mode(family: str) -> None:
    model = tiny.model(family, torch.float16)
    kinds = {layer.name: (type(layer.module), layer.module.bias is None) for layer in prunable_layers(model)}
    shrunk(model, heads=[0], neurons=[5])
    for layer in prunable_layers(model):
        assert (type(layer.module), layer.module.bias is None) == kinds[layer.name]
        stored: Any = layer.module.weight
        assert stored.is_contiguous()
        assert stored.dtype == torch.float16
        assert not layer.module.training
        assert not any(parameter.requires_grad for parameter in layer.module.parameters())
        if isinstance(layer.module, nn.Linear):
            assert (layer.module.out_features, layer.module.in_features) == tuple(layer.weight.shape)


def test_the_smaller_layers_own_their_tensors() -> None:
    model = tiny.model("bert")
    before = copy.deepcopy(model)
    old = {layer.name: layer for layer in prunable_layers(model)}
    shrunk(model, heads=[3], neurons=[31])
    for layer in prunable_layers(model):
        layer.weight.zero_()
    for layer in prunable_layers(before):
        assert torch.equal(old[layer.name].weight, layer.weight), layer.name


ATTRIBUTES: dict[str, tuple[str, dict[str, int]]] = {
    "bert": ("bert.encoder.layer.1.attention.self", {"num_attention_heads": 3, "all_head_size": 12}),
    "roberta": ("roberta.encoder.layer.2.attention.self", {"num_attention_heads": 3, "all_head_size": 12}),
    "distilbert": ("distilbert.transformer.layer.2.attention", {"n_heads": 3, "dim": 12}),
    "gpt2": ("transformer.h.1.attn", {"num_heads": 3, "split_size": 12}),
    "opt": ("model.decoder.layers.3.self_attn", {"num_heads": 3}),
    "llama": ("model.layers.3.self_attn", {"num_key_value_groups": 2}),
    "mistral": ("model.layers.3.self_attn", {"num_key_value_groups": 2}),
    "qwen2": ("model.layers.3.self_attn", {"num_key_value_groups": 2}),
    "bart": ("model.decoder.layers.1.encoder_attn", {"num_heads": 3}),
}


@pytest.mark.parametrize("family", ATTRIBUTES)
def test_the_attributes_that_count_heads_follow(family: str) -> None:
    path, expected = ATTRIBUTES[family]
    model = shrunk(tiny.model(family), heads=[1])
    module = model.get_submodule(path)
    assert {name: getattr(module, name) for name in expected} == expected
    assert logits(model).isfinite().all()


CONFIGS: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "bert": (
        {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32},
        {"num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 30},
    ),
    "roberta": (
        {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32},
        {"num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 30},
    ),
    "distilbert": (
        {"n_layers": 3, "n_heads": 4, "hidden_dim": 32},
        {"n_layers": 2, "n_heads": 3, "hidden_dim": 30},
    ),
    "gpt2": ({"n_layer": 2, "n_head": 4, "n_inner": 32}, {"n_layer": 1, "n_head": 3, "n_inner": 30}),
    "opt": (
        {"num_hidden_layers": 4, "num_attention_heads": 4, "ffn_dim": 32},
        {"num_hidden_layers": 3, "num_attention_heads": 3, "ffn_dim": 30},
    ),
    **dict.fromkeys(
        ("llama", "mistral", "qwen2"),
        (
            {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32},
            {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 30},
        ),
    ),
    "bart": (
        {
            "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
            "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        },
        {
            "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 3, "decoder_attention_heads": 3,
            "encoder_ffn_dim": 30, "decoder_ffn_dim": 30,
        },
    ),
    "t5": (
        {"num_layers": 3, "num_decoder_layers": 3, "num_heads": 4, "d_ff": 32},
        {"num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "d_ff": 30},
    ),
    "t5-gated": (
        {"num_layers": 4, "num_decoder_layers": 4, "num_heads": 4, "d_ff": 32},
        {"num_layers": 3, "num_decoder_layers": 3, "num_heads": 4, "d_ff": 30},
    ),
}  # fmt: skip
"""The configuration's own keys, before and after."""


def without_second_blocks(model: Any) -> Any:
    drop_blocks(model, [block.index != 1 for block in blocks_of(model)])
    return model


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_the_configuration_says_what_the_model_now_is_and_what_it_was(family: str) -> None:
    before, after = CONFIGS[family]
    model = without_second_blocks(shrunk(tiny.model(family), heads=[1], neurons=[2, 3]))
    follow_config(model)
    assert {key: getattr(model.config, key) for key in after} == after
    assert model.config.compact == {"before": before, "shapes": shapes_of(model)}


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_what_was_before_is_what_was_before_the_first_time(family: str) -> None:
    model = shrunk(tiny.model(family), neurons=[0])
    follow_config(model)
    shrunk(model, neurons=[0, 1])
    follow_config(model)
    kept = model.config.compact
    follow_config(model)
    assert kept == model.config.compact
    assert kept["before"] == CONFIGS[family][0]
    assert {block["neurons"] for stack in kept["shapes"] for block in stack} == {29}


def test_where_blocks_differ_no_key_of_the_configuration_follows() -> None:
    model = tiny.model("bert")
    to_shapes(model, [[block_of([4], 32), block_of([2], 7)]])
    follow_config(model)
    assert (model.config.num_attention_heads, model.config.intermediate_size) == (4, 32)
    assert model.config.compact == {
        "before": {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32},
        "shapes": [[block_of([4], 32), block_of([2], 7)]],
    }


def test_heads_that_differ_between_the_attentions_of_a_block_are_not_said_in_one_number() -> None:
    model = tiny.model("bart")
    shapes = [[block_of([2], 32)] * 2, [block_of([2, 3], 32)] * 2]
    to_shapes(model, shapes)
    follow_config(model)
    assert (model.config.encoder_attention_heads, model.config.decoder_attention_heads) == (2, 4)
    assert model.config.compact["shapes"] == shapes


@pytest.mark.parametrize("shapes", [[[5] * 3, [9] * 3], [[9] * 3, [5] * 3]])
def test_stacks_that_share_a_key_do_not_contradict_each_other(shapes: list[list[int]]) -> None:
    """T5 has one `d_ff` for both; where the stacks differ it cannot say either's, and must say what it was."""
    model = tiny.model("t5")
    to_shapes(model, [[block_of([4] * (1 + stack), n) for n in widths] for stack, widths in enumerate(shapes)])
    follow_config(model)
    assert model.config.d_ff == 32


def test_a_number_that_is_no_longer_true_of_all_blocks_goes_back_to_what_was_before() -> None:
    model = shrunk(tiny.model("bert"), heads=[0], neurons=[0, 1])
    follow_config(model)
    assert (model.config.num_attention_heads, model.config.intermediate_size) == (3, 30)
    to_shapes(model, [[block_of([3], 30), block_of([1], 7)]])
    follow_config(model)
    assert (model.config.num_attention_heads, model.config.intermediate_size) == (4, 32)


def test_a_removed_block_leaves_numbers_without_a_gap() -> None:
    """A cache keeps keys and values by them."""
    model = tiny.model("llama")
    staying = [model.model.layers[i] for i in (0, 2, 3)]
    drop_blocks(model, [True, False, True, True])
    assert list(model.model.layers) == staying
    assert [block.self_attn.layer_idx for block in staying] == [0, 1, 2]


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_every_number_of_a_block_is_its_position(family: str) -> None:
    model = tiny.model(family)
    drop_blocks(model, [block.index != 1 for block in blocks_of(model)])
    for block in blocks_of(model):
        numbers = {part.layer_idx for part in block.module.modules() if getattr(part, "layer_idx", None) is not None}
        assert numbers <= {block.index}
        if family in ("gpt2", "opt", "llama", "mistral", "qwen2"):
            assert numbers


SLIDING = {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 4}
FULL_ATTENTION, SLIDING_ATTENTION = "full_attention", "sliding_attention"


def test_types_of_layers_stay_with_their_blocks() -> None:
    model = tiny.model("qwen2", **SLIDING)  # type: ignore[arg-type]  # mypy takes any of these for the dtype
    assert model.config.layer_types == [FULL_ATTENTION] * 2 + [SLIDING_ATTENTION] * 2
    drop_blocks(model, [False, True, True, False])
    assert model.config.layer_types == [FULL_ATTENTION, SLIDING_ATTENTION]
    assert [block.self_attn.sliding_window for block in model.model.layers] == [None, 4]


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_dropping_nothing_changes_nothing(family: str) -> None:
    model = tiny.model(family)
    modules, config = list(model.modules()), model.config.to_dict()
    drop_blocks(model, [True] * len(blocks_of(model)))
    assert list(model.modules()) == modules
    assert model.config.to_dict() == config


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_another_model_is_brought_to_the_shapes_of_a_smaller_one(family: str) -> None:
    smaller = without_second_blocks(tiny.model(family))
    layers = prunable_layers(smaller)
    sets = group_sets(smaller, layers)
    generator = torch.Generator().manual_seed(0)
    kept = [torch.randperm(each.count, generator=generator) < each.count - i % 2 for i, each in enumerate(sets)]
    shrink_groups(smaller, layers, sets, kept)
    shapes = shapes_of(smaller)
    assert len({tuple(layer.weight.shape) for layer in prunable_layers(smaller)}) > 2
    other = tiny.model(family, seed=1)
    to_shapes(other, shapes)
    assert shapes_of(other) == shapes
    same = {name: tensor.shape for name, tensor in smaller.state_dict().items()}
    assert {name: tensor.shape for name, tensor in other.state_dict().items()} == same
    other.load_state_dict(smaller.state_dict())
    assert torch.equal(logits(other), logits(smaller))


BERT = block_of([4], 32)


@pytest.mark.parametrize(
    ("family", "shapes", "message"),
    [
        ("bert", [], "0 stacks where the model has 1"),
        ("bert", [[BERT], [BERT]], "2 stacks where the model has 1"),
        ("bart", [[BERT]], "1 stacks where the model has 2"),
        ("bert", [[]], "0 blocks where encoder.layer has 2"),
        ("bert", [[BERT] * 3], "3 blocks where encoder.layer has 2"),
        ("bart", [[BERT], []], "0 blocks where decoder.layers has 2"),
        ("bert", [[block_of([4, 4], 32)]], "[32, 4, 4] where a block of encoder.layer has [32, 4]"),
        ("bert", [[block_of([], 32), block_of([4], 32)]], "[32] where a block of encoder.layer has [32, 4]"),
        ("bert", [[BERT, block_of([4], 0)]], "[0, 4] where a block of encoder.layer has [32, 4]"),
        ("bert", [[BERT, block_of([4], -1)]], "[-1, 4] where a block of encoder.layer has [32, 4]"),
        ("bert", [[block_of([4], 33)]], "[33, 4] where a block of encoder.layer has [32, 4]"),
        ("bert", [[block_of([0], 32)]], "[32, 0] where a block of encoder.layer has [32, 4]"),
        ("bert", [[block_of([5], 32)]], "[32, 5] where a block of encoder.layer has [32, 4]"),
        ("llama", [[block_of([4], 32)]], "[32, 4] where a block of layers has [32, 2]"),
        ("bert", [[block_of([10**30], 32)]], f"[32, {10**30}] where a block of encoder.layer has [32, 4]"),
        (  # as many in all, but not where they belong
            "bart",
            [[block_of([4, 4], 32)], [block_of([4], 32)]],
            "[32, 4, 4] where a block of encoder.layers has [32, 4]",
        ),
        ("t5", [[block_of([4], 33)], [block_of([4, 4], 32)]], "[33, 4] where a block of encoder.block has [32, 4]"),
    ],
)
def test_shapes_that_cannot_be_are_refused(family: str, shapes: list[list[dict[str, Any]]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        to_shapes(tiny.model(family), shapes)


@pytest.mark.parametrize("heads", [[2], [4, 4], [], [0]])
def test_heads_of_a_family_that_cannot_lose_them_must_be_all(heads: list[int]) -> None:
    with pytest.raises(ValueError, match="heads"):
        to_shapes(tiny.model("t5"), [[block_of(heads, 32)], [block_of([4, 4], 32)]])


@pytest.mark.parametrize("wrong", [4.5, "4", True])
def test_counts_are_whole_numbers(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        to_shapes(tiny.model("bert"), [[block_of([4], wrong)]])
    with pytest.raises((ValueError, TypeError)):
        to_shapes(tiny.model("bert"), [[block_of([wrong], 32)]])


def test_t5_shrinks_in_its_neurons_alone() -> None:
    model = tiny.model("t5-gated")
    assert {each.kind for each in group_sets(model, prunable_layers(model))} == {"neurons"}


def test_a_family_that_is_not_described_is_refused() -> None:
    import transformers

    model = transformers.ElectraForMaskedLM(
        transformers.ElectraConfig(
            vocab_size=60, embedding_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=32, max_position_embeddings=32,
        )
    )  # fmt: skip
    for call in (lambda: group_sets(model, prunable_layers(model)), lambda: shapes_of(model)):
        with pytest.raises(Refused, match="where electra models keep their heads and neurons is not described"):
            call()
