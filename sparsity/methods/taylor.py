"""Taylor: what is removed is worth how much the loss would change, to first order.

Single weights: the mean over batches of (w dL/dw)^2, Molchanov, Mallya, Tyree, Frosio, Kautz:
Importance Estimation for Neural Network Pruning, CVPR 2019 (arXiv 1906.10771), equation 8. Neurons and
heads: the mean over batches of |dL/dgate| for a gate on what the group hands on, Michel, Levy, Neubig:
Are Sixteen Heads Really Better than One?, NeurIPS 2019 (arXiv 1905.10650), equation 2. The gate's
gradient is the sum of w dL/dw over the columns that read the group, exactly. Blocks: the sum of their
weights' scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.calibration import GRADIENTS
from sparsity.methods.scored import Scored

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics


def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
    """w^2 x mean squared gradient, of the weight's shape."""
    assert statistics.squared_gradients is not None  # it is in `needs`
    wide = weight if weight.dtype.itemsize >= 4 else weight.float()
    return wide.square() * statistics.squared_gradients


def columns_score(weight: torch.Tensor, statistics: LayerStatistics, columns: torch.Tensor) -> torch.Tensor:
    """(groups,): mean over batches of |sum of w dL/dw over the group's columns|."""
    del weight
    assert statistics.saliences is not None  # it is in `needs`
    return statistics.saliences[:, columns].sum(2).abs().mean(0)


METHOD = Scored(score, needs=frozenset({GRADIENTS}), columns_score=columns_score)
