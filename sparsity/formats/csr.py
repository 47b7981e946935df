"""CSR: compressed sparse rows, each kept weight with the number of its column, multiplied by torch's own products.

At float32 a kept weight takes 8 bytes, so less memory than dense from half of the weights on; time follows later.
Refuses dtypes and devices that torch has no such products for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity import compressed
from sparsity.formats.protocol import LayerWise

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern, GroupPattern

DTYPES = {"cpu": ("float32", "float64"), "cuda": ("float32", "float64", "float16", "bfloat16")}
"""That torch multiplies compressed rows in, by device."""


def reason(pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
    """Any pattern, in the dtypes that the device has products for."""
    del pattern
    if device not in DTYPES:
        return f"torch multiplies compressed rows on {' and '.join(DTYPES)} alone, not on {device}"
    if dtype not in DTYPES[device]:
        return f"on {device} torch multiplies compressed rows in {', '.join(DTYPES[device])}, not in {dtype}"
    return None


def convert_layer(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
    """A layer of the kept weights; the bias is shared."""
    return compressed.linear(layer.weight, mask, layer.module.bias)  # type: ignore[arg-type]  # nn.Module types attributes as Tensor | Module


FORMAT = LayerWise(convert_layer, reason)
