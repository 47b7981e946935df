"""Compact: neurons, heads and blocks that the mask removed whole are really gone.

A smaller model of ordinary dense layers: less to multiply and to hold on every device, without any
special kernel. A neuron or head can go when every weight that reads it is pruned, a block when all of
its weights are, so the outputs are those of the masked dense model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity.formats.protocol import skeleton
from sparsity.models.architecture import blocks_of, prunable_layers
from sparsity.pattern import GroupPattern
from sparsity.shrink import drop_blocks, follow_config, group_sets, shrink_groups

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern


class Compact:
    """The model without what the mask removed whole."""

    def unsupported(self, pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
        """Only patterns that remove whole groups leave something to take out."""
        del dtype, device
        if isinstance(pattern, GroupPattern):
            return None
        return f"compact takes out whole neurons, heads and layers, and {pattern} zeros are single weights"

    def convert(
        self, model: PreTrainedModel, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]
    ) -> PreTrainedModel:
        """The smaller model; its unpruned parameters are those of the given one."""
        smaller = skeleton(model)
        own_layers = prunable_layers(smaller)
        sets = group_sets(smaller, own_layers)
        alive = [bool(mask.any()) for mask in masks]
        kept = []
        for each in sets:
            read = masks[each.reader.layer].any(0)[each.reader.index].any(1)  # (groups,)
            kept.append(read if alive[each.reader.layer] else read.logical_not())  # of a block that goes: left as it is
        shrink_groups(smaller, own_layers, sets, kept)
        blocks = range(len(blocks_of(smaller)))
        drop_blocks(
            smaller, [any(a for a, layer in zip(alive, layers, strict=True) if layer.block == b) for b in blocks]
        )
        follow_config(smaller)
        return smaller


FORMAT = Compact()
