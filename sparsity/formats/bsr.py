"""BSR: block sparse rows, square tiles of which those that hold a kept weight are stored, by torch's own products.

What a tile holds beside the weights that were kept is stored and multiplied as zeros, so the format pays where zeros
come in tiles (patterns rxc, neurons, heads). Each layer is cut as its mask is cheapest to multiply: into tiles of the
pattern where they are square, else into what they can be covered with.

Refuses dtypes and devices that torch has no such products for; on CUDA, whose kernels want tiles of 16 and more, every
pattern without them. A layer whose sides are no multiple of any tile stays dense (`protocol.left_dense`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity import compressed
from sparsity.formats.protocol import LayerWise
from sparsity.pattern import Block

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern, GroupPattern

CPU_TILES = {8: 0.95, 4: 1.0, 2: 1.35}
"""Time of a stored weight by the side of its tile, relative (MKL, Zen 4). Tiles of 16 and 32 take 1.4: cut into 8."""
CUDA_TILES = {64: 1.0, 32: 1.0, 16: 1.0}
"""The smallest that the kernels can do; of equal ones the larger, which has fewer indices."""
DTYPES = {"cpu": ("float32", "float64"), "cuda": ("float16", "bfloat16")}
"""That torch multiplies tiles in, by device."""


def reason(pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
    """Any pattern on a CPU, tiles of 16 and more on CUDA, in the dtypes that the device has products for."""
    if device not in DTYPES:
        return f"torch multiplies tiles on {' and '.join(DTYPES)} alone, not on {device}"
    if dtype not in DTYPES[device]:
        return f"on {device} torch multiplies tiles in {' and '.join(DTYPES[device])}, not in {dtype}"
    least = min(CUDA_TILES)
    if device == "cuda" and not (isinstance(pattern, Block) and pattern.rows % least == pattern.columns % least == 0):
        return f"on cuda torch multiplies tiles of {least}x{least} and more, which {pattern} zeros do not come in"
    return None


def convert_layer(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module | str:
    """A layer of the tiles that hold kept weights; the bias is shared."""
    tile = cheapest(mask, CUDA_TILES if mask.is_cuda else CPU_TILES)
    if tile is None:
        rows, columns = mask.shape
        return f"its {rows}x{columns} weights cannot be cut into square tiles"
    return compressed.linear(layer.weight, mask, layer.module.bias, tile)  # type: ignore[arg-type]  # nn.Module types attributes as Tensor | Module


def cheapest(mask: torch.Tensor, tiles: dict[int, float]) -> int | None:
    """The side of the tiles that take the least time to multiply, of equal ones the first; None where none fits."""
    rows, columns = mask.shape
    costs = {
        side: time * side * side * int(compressed.held(mask, side).count_nonzero())
        for side, time in tiles.items()
        if rows % side == columns % side == 0
    }
    return min(costs, key=lambda side: costs[side], default=None)


FORMAT = LayerWise(convert_layer, reason)
