"""No pruning: the dense control is a method like the others, so nothing has to ask whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.errors import Refused
from sparsity.methods.protocol import Chosen, Target
from sparsity.pattern import Unstructured

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern


class NoPruning:
    """Keeps every weight; refuses to remove any."""

    needs: frozenset[str] = frozenset()
    stochastic = False
    sequential = False
    score = None
    columns_score = None
    prune_groups = None

    def refuses(self, pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
        """Every pattern but the one that says nothing."""
        if pattern == Unstructured() and scope == "layer":
            return None
        return "method none removes nothing, so it has no pattern or scope but unstructured, layer"

    def prune_layer(self, weight: torch.Tensor, statistics: LayerStatistics, target: Target) -> Chosen:
        """The weight as it is, and a mask of True."""
        del statistics
        if target.remove:
            raise Refused(f"method none removes nothing, so it cannot remove {target.remove} weights")
        return Chosen(weight, weight.new_ones(weight.shape).bool())


METHOD = NoPruning()
