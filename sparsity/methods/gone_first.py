"""The adapter by which what is gone already goes first: for pruning one model again and again.

A score says what a weight is worth, and of a weight that was removed that is not always the least: where no
gradient reaches, what stays is worth as little, and a block whose weights are zero still turns its input by its
biases and norms. Here removed weights, and groups of nothing else, stand below all scores, which are never
negative. A method that only mends decides for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.methods.protocol import Chosen, ColumnsScore, PruneGroups, PruningMethod, Score, Target

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern


@dataclass(frozen=True)
class GoneFirst:
    """The method, of a model of which the masks tell what is left. What each member means: `protocol.PruningMethod`."""

    method: PruningMethod
    masks: Sequence[torch.Tensor]
    """One for each layer, `(out, in)`, True = still there."""

    @property
    def needs(self) -> frozenset[str]:
        """As the method says."""
        return self.method.needs

    @property
    def stochastic(self) -> bool:
        """As the method says."""
        return self.method.stochastic

    @property
    def sequential(self) -> bool:
        """As the method says."""
        return self.method.sequential

    @property
    def prune_groups(self) -> PruneGroups | None:
        """As the method does."""
        return self.method.prune_groups

    @property
    def score(self) -> Score | None:
        """The method's, and -1 for what is gone."""
        own = self.method.score
        if own is None:
            return None

        def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
            return own(weight, statistics).masked_fill(~self._mask(statistics), -1.0)

        return score

    @property
    def columns_score(self) -> ColumnsScore | None:
        """The method's, and -1 for groups of which nothing is left."""
        own = self.method.columns_score
        if own is None:
            return None

        def score(weight: torch.Tensor, statistics: LayerStatistics, columns: torch.Tensor) -> torch.Tensor:
            left = self._mask(statistics).any(0)[columns].any(1)  # (groups,)
            return own(weight, statistics, columns).masked_fill(~left, -1.0)

        return score

    def refuses(self, pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
        """As the method does."""
        return self.method.refuses(pattern, scope)

    def prune_layer(self, weight: torch.Tensor, statistics: LayerStatistics, target: Target) -> Chosen:
        """The weight itself and the mask by these scores; of a method without scores what it makes of it."""
        if self.score is None:
            return self.method.prune_layer(weight, statistics, target)
        return Chosen(weight, target.choose(self.score(weight, statistics)))

    def _mask(self, statistics: LayerStatistics) -> torch.Tensor:
        return self.masks[statistics.seed[1]]
