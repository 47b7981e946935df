"""Layers on the kernel: what they answer, what they hold, and how they are copied and kept."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sparsity import activation
from sparsity.errors import Refused
from sparsity.kernel import layers
from sparsity.kernel.layers import HandsOn, PackedFeedForward, PackedLinear
from sparsity.kernel.operators import NUMBERS
from tests.kernel.weights import FUNCTIONS, inputs, sample

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("block_rows", [1, 2, 4, 8])
def test_a_layer_says_what_it_stands_for(block_rows: int, bias: bool) -> None:
    weight = sample(24, 40, block_rows=block_rows, bias=bias)
    layer = weight.packed("silu")
    assert (layer.out_features, layer.in_features, layer.block_rows) == (24, 40, block_rows)
    assert layer.layer_name == "sample"
    assert torch.equal(layer.dense_weight(), weight.weight)
    own = layer.bias
    assert own is None if weight.bias is None else own is not None and torch.equal(own, weight.bias)
    assert repr(layer) == "PackedLinear(in_features=40, out_features=24, activation=silu)"
    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == ["packed"]


def test_takes_weights_as_models_keep_them() -> None:
    weight = sample(24, 40)
    across, bias = nn.Parameter(weight.weight.t().contiguous()), nn.Parameter(inputs(24))
    layer = PackedLinear(across.detach().t(), weight.mask.t().contiguous().t(), bias, "across")
    assert torch.equal(layer.dense_weight(), weight.weight)
    held = layer.bias
    assert held is not None
    assert torch.equal(held, bias)
    assert not held.requires_grad


def test_holds_its_own_copy() -> None:
    weight = sample(24, 40)
    layer, x = weight.packed(), inputs(3, 40)
    expected = layer(x)
    weight.weight.zero_()
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("rows", [8, 4, 2])
def test_rows_that_always_keep_the_same_columns_are_found(rows: int) -> None:
    mask = sample(16, 40, 0.5, rows).mask
    assert layers.block_rows(mask) == rows
    changed = mask.clone()
    changed[-1, 7] ^= True
    assert layers.block_rows(changed) == 1
    assert layers.block_rows(mask[: 16 - rows // 2]) == max(rows // 2, 1)


def test_masks_that_keep_all_or_nothing_are_in_the_highest_blocks() -> None:
    for mask in (torch.ones(16, 5, dtype=torch.bool), torch.zeros(16, 5, dtype=torch.bool)):
        assert layers.block_rows(mask) == 8


def test_every_activation_that_is_recognised_is_one_of_the_kernel() -> None:
    assert NUMBERS.keys() == {"none", *activation.known()}
    for name, make in activation.known().items():
        x = inputs(50)
        torch.testing.assert_close(make()(x), FUNCTIONS[name](x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_pair_computes_what_its_layers_do_one_after_the_other(name: str) -> None:
    up, down, x = sample(48, 40), sample(24, 48), inputs(70, 40)
    together = PackedFeedForward(up.packed(), down.packed(), name)
    assert torch.equal(together(x), down.packed()(up.packed(name)(x)))


def test_what_hands_on_does_nothing_else() -> None:
    x = inputs(3)
    assert HandsOn()(x) is x


def pair() -> PackedFeedForward:
    return PackedFeedForward(sample(48, 40).packed(), sample(24, 48).packed(), "gelu")


def test_a_copy_is_on_its_own() -> None:
    module, x = pair(), inputs(3, 40)
    expected = module(x)
    copied = copy.deepcopy(module)
    assert torch.equal(copied(x), expected)
    copied.up.packed[-40:] = 0
    assert torch.equal(module(x), expected)


def test_its_state_goes_into_another_of_the_same_size() -> None:
    module, x = pair(), inputs(3, 40)
    other = PackedFeedForward(sample(48, 40).packed(), sample(24, 48).packed(), "gelu")
    for buffer in other.buffers():
        buffer[-50:] = 0  # their biases
    assert not torch.equal(other(x), module(x))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        PackedFeedForward(sample(48, 40, 0.5).packed(), sample(24, 48).packed(), "gelu").load_state_dict(
            module.state_dict()
        )


def test_is_kept_whole_and_read_by_another_process(tmp_path: Path) -> None:
    module, x = pair(), inputs(3, 40)
    torch.save((module, x, module(x)), tmp_path / "pair.pt")
    code = f"""
import torch
module, x, expected = torch.load({str(tmp_path / "pair.pt")!r}, weights_only=False)
assert torch.equal(module(x), expected)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [pair(), sample(24, 40).packed()])
def test_cannot_be_trained(module: nn.Module) -> None:
    assert not module.training
    assert module.eval() is module
    whole = nn.Sequential(module)
    with pytest.raises(
        Refused, match=r"^packed layers cannot be trained: train the masked dense model, then convert it$"
    ):
        whole.train()
    assert not module.training


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_refuses_other_dtypes(dtype: torch.dtype) -> None:
    weight = sample(8, 8)
    with pytest.raises(TypeError, match=r"^weights and biases must be fp32"):
        PackedLinear(weight.weight.to(dtype), weight.mask, None, "other")


def test_a_module_moved_to_another_dtype_still_holds_its_weights() -> None:
    module, x = pair(), inputs(3, 40)
    expected = module(x)
    assert torch.equal(module.to(torch.float64)(x), expected)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    assert buffer.tell() > 0
