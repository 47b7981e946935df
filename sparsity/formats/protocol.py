"""What an execution format is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import Pattern


class ExecutionFormat(Protocol):
    """Stores and multiplies pruned weights in one way."""

    def unsupported(self, pattern: Pattern, dtype: str, device: str) -> str | None:
        """Why this format cannot run such a layer here, or None. The test is skipped with the reason."""

    def convert(self, layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
        """A module that computes what the masked dense layer computes.

        Args:
            layer: holds the pruned weight, zeros in place; it must not be changed.
            mask: `(out_features, in_features)`, True = kept.
        """
