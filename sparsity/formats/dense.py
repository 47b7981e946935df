"""Dense: the zeros are folded into the weight and multiplied like any other number.

What `torch.nn.utils.prune.remove` leaves behind. It costs what the unpruned layer costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern, GroupPattern


class Dense:
    """The masked dense model as it is."""

    def unsupported(self, pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
        """Runs everywhere."""
        del pattern, dtype, device
        return None

    def convert(
        self, model: PreTrainedModel, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]
    ) -> PreTrainedModel:
        """The model itself."""
        del layers, masks
        return model


FORMAT = Dense()
