"""Random: every weight is worth the same, chance decides. The control that any criterion must beat.

Blalock, Gonzalez Ortiz, Frankle, Guttag: What is the State of Neural Network Pruning?, MLSys 2020
(arXiv 2003.03033), section 7, asks for it beside every method. One seed says little: masks of
different seeds differ widely in what they cost, so average at least three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.methods.scored import Scored

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics


def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
    """Uniform in [0, 1), of the weight's shape; drawn on the CPU, so that a seed means the same on every device."""
    import torch

    return torch.rand(weight.shape, generator=statistics.generator()).to(weight.device)


METHOD = Scored(score, stochastic=True)
