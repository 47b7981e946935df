"""L2: a group of weights (a tile, a neuron, a head, a block) is worth the sum of its squares.

The order of groups by their L2 norm, as in Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for
Efficient ConvNets, ICLR 2017 (arXiv 1608.08710), section 3, there with the L1 norm beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.methods.scored import Scored
from sparsity.pattern import NM, Unstructured

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern


def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
    """w^2, of the weight's shape; in float32 at least, since half precision loses small squares."""
    del statistics
    return (weight if weight.dtype.itemsize >= 4 else weight.float()).square()


def refuses(pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
    """Single weights: their order is that of l1."""
    del scope
    if isinstance(pattern, Unstructured | NM):
        return f"l2 orders the single weights of {pattern} as l1 does; use l1"
    return None


METHOD = Scored(score, refuses=refuses)
