"""Fused: dense, with each activation of the feed-forward parts by torch's own single operator.

What a user gains without any pruning where a family spells its activation out, as GPT-2 does; it stands
beside `packed`, which fuses activations too.

Refuses: families that are not described.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity.activation import activation_of, known
from sparsity.formats.protocol import skeleton
from sparsity.models.architecture import blocks_of, described_stacks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern, GroupPattern


class Fused:
    """The masked dense model with other modules for its activations."""

    def unsupported(self, pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
        """Runs everywhere."""
        del pattern, dtype, device
        return None

    def convert(
        self, model: PreTrainedModel, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]
    ) -> PreTrainedModel:
        """The model, sharing all its weights; activations that torch has no operator for stay as they are."""
        del layers, masks
        converted, stacks = skeleton(model), described_stacks(model)
        for block in blocks_of(converted):
            path = f"{block.name}.{stacks[block.stack].feed_forward.activation}"
            name = activation_of(converted.get_submodule(path))
            if name is not None:
                converted.set_submodule(path, known()[name]())
        return converted


FORMAT = Fused()
