"""Magnitude: a weight is worth its absolute value.

Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks,
NeurIPS 2015 (arXiv 1506.02626), section 3. The method of the original study, there through
`torch.nn.utils.prune.l1_unstructured`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.methods.scored import Scored

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics


def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
    """|w|, of the weight's shape `(out_features, in_features)`."""
    del statistics
    return weight.abs()


METHOD = Scored(score)
