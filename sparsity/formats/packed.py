"""Packed: kept weights alone, multiplied by our own CPU kernel; feed-forward parts as one operator.

For single weights, n:m and blocks of rows, fp32. The kernel (`sparsity.kernel`) is compiled when a layer
first runs, in a fraction of a second, by llvmlite, which is an extra: `pip install
"sparsity-bench[packed]"`. Where a family is described and the kernel knows its activation, the first
matrix applies it where it stores, and hands its values to the second without their leaving the cache.
For that the first layer and the activation hand on what they are given, and the second layer does the
work of all three.

Refuses: other dtypes and devices than fp32 on a CPU; patterns that remove whole groups, which `compact`
takes out; training, for which its layers have no gradient and joined ones no dropout.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity.activation import activation_of
from sparsity.errors import Refused
from sparsity.formats.protocol import skeleton
from sparsity.models.architecture import architecture_for, blocks_of
from sparsity.pattern import GroupPattern

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.kernel.layers import PackedLinear
    from sparsity.models.architecture import PrunableLayer
    from sparsity.models.families import FeedForward
    from sparsity.pattern import ElementPattern


class Packed:
    """Kept weights alone, on our own kernel."""

    def unsupported(self, pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
        """It is fp32 on a CPU, with llvmlite, for what removes single weights."""
        if isinstance(pattern, GroupPattern):
            return f"packed leaves out single weights; what {pattern} removes is taken out by compact"
        if not device.startswith("cpu"):
            return f"packed runs on a CPU, not on {device}"
        if dtype != "float32":
            return f"packed computes in float32, not in {dtype}"
        if importlib.util.find_spec("llvmlite") is None:
            return 'packed needs llvmlite to compile its kernel: pip install "sparsity-bench[packed]"'
        return None

    def convert(
        self, model: PreTrainedModel, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]
    ) -> PreTrainedModel:
        """The model on packed layers, its feed-forward parts joined where that is known how."""
        from sparsity.kernel.layers import PackedLinear

        if model.training:  # a joined part leaves out the dropout in its midst
            raise Refused("packed cannot train: put the model in evaluation mode, by model.eval(), and convert it then")
        converted = skeleton(model)
        found: dict[str, PackedLinear] = {}
        for layer, mask in zip(layers, masks, strict=True):
            bias = layer.module.bias
            packed = PackedLinear(layer.weight, mask, bias, layer.name)  # type: ignore[arg-type]  # nn.Module types attributes as Tensor | Module
            found[layer.name] = packed
            converted.set_submodule(layer.name, packed)
        stacks = architecture_for(model.config).stacks or ()
        for block in blocks_of(converted) if stacks else ():
            _join(converted, block.name, stacks[block.stack].feed_forward, found)
        return converted


def _join(model: PreTrainedModel, block: str, part: FeedForward, layers: dict[str, PackedLinear]) -> None:
    """Makes one operator of a feed-forward part, or of a gate and its activation."""
    from sparsity.kernel.layers import HandsOn, PackedFeedForward

    up, down, between = (f"{block}.{path}" for path in (part.up[0], part.down, part.activation))
    activation = activation_of(model.get_submodule(between))
    if activation is None or up not in layers:
        return
    model.set_submodule(between, HandsOn())
    if len(part.up) > 1:  # the gate alone: what it is multiplied with comes from another matrix
        layers[up].activation = activation
        return
    model.set_submodule(up, HandsOn())
    model.set_submodule(down, PackedFeedForward(layers[up], layers[down], activation))


FORMAT = Packed()
