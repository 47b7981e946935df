"""Dense: the zeros are folded into the weight and multiplied like any other number.

What `torch.nn.utils.prune.remove` leaves behind. It costs what the unpruned layer costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import Pattern


class Dense:
    """The pruned layer as it is."""

    def unsupported(self, pattern: Pattern, dtype: str, device: str) -> str | None:
        """Runs everywhere."""
        del pattern, dtype, device
        return None

    def convert(self, layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
        """The layer's own module."""
        del mask
        return layer.module


FORMAT = Dense()
