"""Wanda: a weight is worth its magnitude times the norm of what it multiplies.

Sun, Liu, Bair, Kolter: A Simple and Effective Pruning Approach for Large Language Models, ICLR 2024
(arXiv 2306.11695), equation 1: |W_ij| x ||X_j||_2, compared within each row (scope `row`, or n:m),
layers in sequence behind already pruned ones. For groups the sum over their weights, as "Wanda-sp" of
An et al., AAAI 2024 (arXiv 2312.11983), there from one pass over the dense model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.calibration import INPUT_NORMS
from sparsity.methods.scored import Scored
from sparsity.pattern import Layers

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern


def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
    """|w| x norm of its input, of the weight's shape; in float32 at least, where norms of many tokens fit."""
    wide = weight if weight.dtype.itemsize >= 4 else weight.float()
    return wide.abs() * statistics.input_norms.to(wide.dtype)


def refuses(pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
    """Whole blocks."""
    del scope
    if isinstance(pattern, Layers):
        return "wanda compares weights that read the same inputs, which whole layers do not; use shortgpt"
    return None


METHOD = Scored(score, needs=frozenset({INPUT_NORMS}), sequential=True, refuses=refuses)
