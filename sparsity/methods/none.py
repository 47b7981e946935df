"""No pruning: the dense control is a method like the others, so nothing has to ask whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.errors import Refused

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics


class NoPruning:
    """Keeps every weight; refuses any sparsity but 0."""

    needs: frozenset[str] = frozenset()
    stochastic = False
    score = None

    def prune_layer(
        self, weight: torch.Tensor, statistics: LayerStatistics, sparsity: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight as it is, and a mask of True."""
        del statistics
        if sparsity:
            raise Refused(f"method none removes nothing, so it cannot reach sparsity {sparsity}")
        return weight, weight.new_ones(weight.shape).bool()


METHOD = NoPruning()
