"""Stand-ins for sparse formats: what `SparseLayer` says and no more, computed by rebuilding the dense weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sparsity.formats.protocol import LayerWise, skeleton
from sparsity.models.architecture import PrunableLayer, blocks_of


class Kept(nn.Module):
    """The positions and values of the weights that the mask keeps."""

    weight = None  # T5 looks whether there is one

    def __init__(self, layer: PrunableLayer, mask: torch.Tensor, layer_name: str | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = layer.weight.shape
        self.register_buffer("places", mask.reshape(-1).nonzero()[:, 0])
        self.register_buffer("values", layer.weight[mask])
        bias: Any = layer.module.bias
        self.bias = bias if bias is None else nn.Parameter(torch.cat([bias, bias])[: len(bias)], requires_grad=False)
        if layer_name is not None:
            self.layer_name = layer_name

    def dense_weight(self) -> torch.Tensor:
        values = self.get_buffer("values")
        weight = values.new_zeros(self.out_features * self.in_features)
        weight[self.get_buffer("places")] = values
        return weight.view(self.out_features, self.in_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.dense_weight(), self.bias)


class BothInOne(nn.Module):
    """BERT's two feed-forward layers and the activation between them; each knows what it stands for."""

    def __init__(self, up: Kept, down: Kept, activation: Any) -> None:
        super().__init__()
        self.up, self.down, self.activation = up, down, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down(self.activation(self.up(x)))
        return y


class Joined:
    """Each block's feed-forward layers in one module, of which one is registered at its old place too."""

    def unsupported(self, pattern: object, dtype: str, device: str) -> str | None:
        del pattern, dtype, device
        return None

    def convert(self, model: Any, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]) -> Any:
        result = skeleton(model)
        kept = {each.name: Kept(each, mask, each.name) for each, mask in zip(layers, masks, strict=True)}
        for name, each in kept.items():
            result.set_submodule(name, each)
        for block in blocks_of(result):
            up, down = (kept[f"{block.name}.{part}.dense"] for part in ("intermediate", "output"))
            found = block.module
            found.set_submodule(
                "intermediate", BothInOne(up, down, found.get_submodule("intermediate.intermediate_act_fn"))
            )
            found.set_submodule("output.dense", nn.Identity())
            found.set_submodule("output.unused", down)
        return result


class Half:
    """Every second layer stays dense."""

    def unsupported(self, pattern: object, dtype: str, device: str) -> str | None:
        del pattern, dtype, device
        return None

    def convert(self, model: Any, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]) -> Any:
        result = skeleton(model)
        for each, mask in list(zip(layers, masks, strict=True))[::2]:
            result.set_submodule(each.name, Kept(each, mask))
        return result


KEPT = LayerWise(Kept)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two weights are the same bit for bit: -0 is not +0, and the same NaN is the same."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.dtype.itemsize]
    return torch.equal(one.contiguous().view(bits), other.contiguous().view(bits))
