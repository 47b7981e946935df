"""Weights without zeros come back bit for bit, and what does not fit is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparsity.errors import ModelNotLoaded, Refused
from sparsity.execution import converted
from sparsity.formats import FORMATS
from sparsity.models.architecture import prunable_layers
from sparsity.prune import Recipe, prune
from sparsity.sparse_storage import (
    KEPT,
    VALUES,
    Recorded,
    fits,
    kept,
    packed,
    recorded,
    sparse_layers,
    stored,
    unpacked,
    whole,
)
from tests import sparse_formats, tiny
from tests.models.tiny import refusal
from tests.sparse_formats import same_bits

LAYER = "bert.encoder.layer.0.intermediate.dense"
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def in_stand_in(family: str, stand_in: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Any, Any]:
    """(pruned, the same in a format)."""
    monkeypatch.setitem(FORMATS, "stand-in", stand_in)
    pruned = prune(tiny.model(family, **changes), Recipe("l1", 0.7))
    return pruned, converted(pruned.model, pruned.layers, pruned.masks, "unstructured", "stand-in")


@given(SHAPES, st.randoms(use_true_random=False))
def test_a_mask_unpacks_to_what_was_packed(shape: tuple[int, int], random: Any) -> None:
    mask = torch.tensor([[random.random() < 0.5 for _ in range(shape[1])] for _ in range(shape[0])])
    bits = packed(mask)
    assert fits(bits, mask.shape)
    assert torch.equal(unpacked(bits, mask.shape), mask)


@pytest.mark.parametrize(
    ("bits", "right"),
    [
        (torch.tensor([255, 3], dtype=torch.uint8), True),
        (torch.tensor([255, 4], dtype=torch.uint8), False),
        (torch.tensor([255], dtype=torch.uint8), False),
        (torch.tensor([255, 3, 0], dtype=torch.uint8), False),
        (torch.tensor([[255, 3]], dtype=torch.uint8), False),
        (torch.tensor([-1, 3], dtype=torch.int8), False),
    ],
)
def test_bits_fit_a_shape_when_they_are_as_many_and_none_lies_beyond_its_end(bits: torch.Tensor, right: bool) -> None:
    assert fits(bits, torch.Size((2, 5))) is right


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_weight_but_plus_zero_is_kept(dtype: torch.dtype) -> None:
    weight = torch.tensor(
        [[0.0, -0.0, float("nan"), float("-inf"), 1.0, torch.finfo(dtype).smallest_normal]], dtype=dtype
    )
    assert kept(weight).tolist() == [[False, True, True, True, True, True]]
    assert kept(weight.t()).tolist() == [[False], [True], [True], [True], [True], [True]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_dense_weights_come_back_bit_for_bit(family: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "stand-in", sparse_formats.KEPT)
    pruned = prune(tiny.model(family, dtype), Recipe("l1", 0.7))
    first, mask = pruned.layers[0].weight, pruned.masks[0]
    first[mask] = torch.where(torch.arange(int(mask.sum())) % 2 == 0, -0.0, 0.0).to(dtype)  # kept, and zero
    sparse = converted(pruned.model, pruned.layers, pruned.masks, "unstructured", "stand-in")
    tensors, masks = whole("here", stored(sparse), pruned.layers)
    assert [f"{layer.name}.weight" in tensors for layer in pruned.layers] == [True] * len(pruned.layers)
    for name, tensor in tensors.items():
        assert same_bits(tensor, pruned.model.state_dict()[name]), name
    assert torch.equal(masks[pruned.layers[0].name], mask & torch.signbit(first))  # a kept +0 counts as removed
    for layer, other in zip(pruned.layers[1:], pruned.masks[1:], strict=True):
        assert torch.equal(masks[layer.name], other)


def test_the_file_holds_a_bit_for_each_weight_the_kept_values_and_the_rest_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pruned, sparse = in_stand_in("bert", sparse_formats.KEPT, monkeypatch)
    tensors = stored(sparse)
    prunable = {f"{layer.name}.weight" for layer in pruned.layers}
    plain = stored(pruned.model)
    assert (
        tensors.keys() - {name + end for name in sparse_layers(sparse) for end in (KEPT, VALUES)}
        == plain.keys() - prunable
    )
    assert "cls.predictions.decoder.weight" not in plain  # it is tied to the embeddings
    bits, values = tensors[LAYER + KEPT], tensors[LAYER + VALUES]
    assert (bits.dtype, bits.shape) == (torch.uint8, (64,))
    mask = pruned.masks[[layer.name for layer in pruned.layers].index(LAYER)]
    assert torch.equal(values, pruned.model.get_submodule(LAYER).weight[mask])
    assert bits[0] == sum(int(bit) << i for i, bit in enumerate(mask[0, :8]))


@pytest.mark.parametrize("stand_in", [sparse_formats.KEPT, sparse_formats.Half(), sparse_formats.Joined()])
def test_sizes_alone_are_those_of_the_tensors(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sparse = in_stand_in("bert", stand_in, monkeypatch, intermediate_size=31, hidden_size=15, num_attention_heads=3)
    real, sizes = stored(sparse), stored(sparse, sizes_alone=True)
    assert list(real) == list(sizes)
    assert [(t.shape, t.dtype) for t in real.values()] == [(t.shape, t.dtype) for t in sizes.values()]
    assert all(sizes[name].is_meta for name in sizes if name.endswith((KEPT, VALUES)))


def test_layers_inside_a_joined_module_are_found_by_the_name_they_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    pruned, sparse = in_stand_in("bert", sparse_formats.Joined(), monkeypatch)
    assert sparse_layers(sparse).keys() == {layer.name for layer in pruned.layers}
    tensors, _ = whole("here", stored(sparse), pruned.layers)
    assert tensors.keys() == stored(pruned.model).keys()


def test_two_modules_for_one_layer_are_refused() -> None:
    layer = prunable_layers(tiny.model("bert"))[0]
    mask = torch.ones_like(layer.weight, dtype=torch.bool)
    both = nn.ModuleDict({name: sparse_formats.Kept(layer, mask, "layer") for name in ("one", "other")})
    assert refusal(Refused, lambda: sparse_layers(both)) == "two modules of this model stand for the layer layer"


def test_views_of_one_tensor_are_not_taken_for_ties() -> None:
    weights = torch.arange(12.0)
    module = nn.Module()
    module.register_buffer("first", weights[:6].view(2, 3))
    module.register_buffer("turned", weights[:6].view(3, 2))
    module.register_buffer("second", weights[6:].view(2, 3))
    module.register_buffer("again", weights[:6].view(2, 3))
    module.register_buffer("empty", weights[:0])
    module.register_buffer("none", weights[:0])
    assert list(stored(module)) == ["first", "turned", "second", "empty", "none"]


def broken(monkeypatch: pytest.MonkeyPatch, **changes: torch.Tensor | None) -> str:
    """What is said of a file whose tensors of one layer, or others, are changed."""
    pruned, sparse = in_stand_in("bert", sparse_formats.KEPT, monkeypatch)
    tensors = stored(sparse)
    for key, tensor in changes.items():
        name = key if "." in key else f"{LAYER}.weight.{key}"
        tensors.pop(name) if tensor is None else tensors.update({name: tensor})
    message = refusal(ModelNotLoaded, lambda: whole("here", tensors, pruned.layers))
    assert message.startswith("here: sparse.safetensors holds ")
    return message.removeprefix("here: sparse.safetensors holds ")


BITS = torch.full((64,), 1, dtype=torch.uint8)
"""Of (32, 16) weights, 64 of them kept."""


def test_the_bits_below_are_near_to_right_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pruned, sparse = in_stand_in("bert", sparse_formats.KEPT, monkeypatch)
    values = torch.arange(64.0)
    tensors, masks = whole("here", stored(sparse) | {LAYER + KEPT: BITS, LAYER + VALUES: values}, pruned.layers)
    assert torch.equal(tensors[f"{LAYER}.weight"].reshape(-1)[::8], values)
    assert masks[LAYER].sum() == 64  # where the bit is set, though the first value is zero


@pytest.mark.parametrize(
    "bits", [BITS[:63], torch.cat([BITS, BITS]), BITS[:0], BITS.view(8, 8), BITS.char(), BITS.float(), BITS[0]]
)
def test_bits_that_do_not_fit_the_layer_are_refused(bits: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    message = broken(monkeypatch, kept=bits, values=torch.zeros(64))
    found = f"{bits.dtype} of shape {tuple(bits.shape)}"
    assert message == f"no bits for {LAYER}, (32, 16), but {found}; save the model again"


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(63), torch.zeros(65), torch.zeros(0), torch.zeros(()), torch.zeros(64, 1), torch.zeros(8, 8),
        torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.bool), torch.zeros(64, dtype=torch.complex64),
        torch.zeros(64, dtype=torch.float8_e4m3fn),
    ],
    ids=lambda values: f"{values.dtype}-{tuple(values.shape)}",
)  # fmt: skip
def test_values_that_do_not_fit_the_bits_are_refused(values: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    message = broken(monkeypatch, kept=BITS, values=values)
    found = f"{values.dtype} of shape {tuple(values.shape)}"
    assert message == f"no 64 values for {LAYER}, but {found}; save the model again"


@pytest.mark.parametrize(("gone", "there"), [("kept", "values"), ("values", "kept")])
def test_half_of_a_sparse_weight_is_refused(gone: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = f"{LAYER}.weight.{there} without {gone}; save the model again"
    assert broken(monkeypatch, **{gone: None}) == expected


@pytest.mark.parametrize("name", ["bert.embeddings.word_embeddings", "bert.pooler.dense", "nothing", ""])
def test_a_sparse_weight_of_no_prunable_layer_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = f"a sparse weight of {name}, which is no prunable layer"
    assert broken(monkeypatch, **{name + KEPT: BITS, name + VALUES: torch.zeros(64)}) == expected
    assert broken(monkeypatch, **{name + VALUES: torch.zeros(64)}) == expected


def test_a_weight_both_sparse_and_dense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = broken(monkeypatch, **{f"{LAYER}.weight": torch.zeros(32, 16)})
    assert message == f"the weight of {LAYER} twice, sparse and dense"


def test_a_configuration_says_format_and_pattern_or_nothing() -> None:
    assert recorded("here", None) is None
    assert recorded("here", {"format": "csr", "pattern": "4x1"}) == Recorded("csr", "4x1")
    formats = {"one": "csr", "other": "dense"}
    assert recorded("here", {"format": "auto", "pattern": "4x1", "formats": formats}) == Recorded(
        "auto", "4x1", formats
    )


@pytest.mark.parametrize(
    "found",
    [{}, [], "csr", 3, True, {"format": "csr"}, {"pattern": "2:4"}, {"format": 7, "pattern": "2:4"},
     {"format": "csr", "pattern": None}, {"format": ["csr"], "pattern": "2:4"}],
    ids=repr,
)  # fmt: skip
def test_a_configuration_that_says_half_of_it_is_refused(found: Any) -> None:
    message = refusal(ModelNotLoaded, lambda: recorded("here", found))
    assert message == "here: config.json holds no format and pattern under 'sparse'"


@pytest.mark.parametrize("formats", [None, [], "csr", 3, {"layer": 3}, {"layer": None}, {"layer": ["csr"]}], ids=repr)
def test_formats_of_layers_that_are_none_are_refused(formats: Any) -> None:
    found = {"format": "auto", "pattern": "4x1", "formats": formats}
    message = refusal(ModelNotLoaded, lambda: recorded("here", found))
    assert message == "here: config.json holds no formats of layers under 'sparse'"
