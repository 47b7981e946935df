"""Masked: torch's reparametrisation left on, as `torch.nn.utils.prune` leaves it.

The weight is computed anew as `weight_orig * weight_mask` before every forward pass, and all three
tensors stay resident: slower than dense and up to three times its weight memory, at any sparsity.
This is what the original study measured.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from sparsity.formats.protocol import LayerWise

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import PrunableLayer


def convert_layer(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
    """A copy of the layer with `weight_orig`, `weight_mask` and the hook that multiplies them."""
    from torch.nn.utils import prune

    module = copy.deepcopy(layer.module)
    stored = mask.t() if layer.transposed else mask
    return prune.custom_from_mask(module, "weight", stored)  # type: ignore[no-any-return]  # torch leaves it untyped


FORMAT = LayerWise(convert_layer)
