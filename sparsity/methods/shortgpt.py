"""Block influence: a block is worth how much it turns its input.

Men et al.: ShortGPT: Layers in Large Language Models are More Redundant Than You Expect, 2024
(arXiv 2403.03853), equation 1: 1 - the mean over tokens of the cosine between what goes in and what
comes out. One pass over the dense model; the blocks of a stack compete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.calibration import INFLUENCE
from sparsity.methods.scored import Scored
from sparsity.pattern import Layers

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern


def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
    """The block's influence, in [0, 2], spread evenly over each of its matrices; float64, since it is summed again."""
    import torch

    assert statistics.influence is not None  # it is in `needs`
    return torch.full(weight.shape, statistics.influence / weight.numel(), dtype=torch.float64, device=weight.device)


def refuses(pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
    """Everything but whole blocks."""
    del scope
    return None if isinstance(pattern, Layers) else "shortgpt scores whole layers, and nothing smaller"


METHOD = Scored(score, needs=frozenset({INFLUENCE}), refuses=refuses)
