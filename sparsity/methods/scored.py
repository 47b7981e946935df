"""What a pruning method is, and the adapter that makes one out of a score.

Methods are told apart from patterns and scopes: a method says how much each weight is worth, the
rest of `sparsity.prune` says which weights compete and how many go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sparsity.mask import keep_highest, pruned_count

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics

Score = Callable[["torch.Tensor", "LayerStatistics"], "torch.Tensor"]
"""(weight (out, in), what is known of the layer) → score of the same shape, high = keep."""


class PruningMethod(Protocol):
    """Chooses, in one layer, which weights stay; may change the kept ones too."""

    @property
    def needs(self) -> frozenset[str]:
        """The statistics that calibration must gather; empty for a method that looks at weights alone."""

    @property
    def stochastic(self) -> bool:
        """Whether another seed gives another choice."""

    @property
    def score(self) -> Score | None:
        """The score by which layers may compete with each other; None where there is none."""

    def prune_layer(
        self, weight: torch.Tensor, statistics: LayerStatistics, sparsity: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(new weight, mask), both `(out_features, in_features)`; the new weight is 0 where the mask is False."""


@dataclass(frozen=True)
class Scored:
    """A method that is nothing but its score."""

    score: Score
    needs: frozenset[str] = frozenset()
    stochastic: bool = False

    def prune_layer(
        self, weight: torch.Tensor, statistics: LayerStatistics, sparsity: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight with the lowest-scored fraction removed, and the mask that says which."""
        keep = weight.numel() - pruned_count(sparsity, weight.numel())
        (mask,) = keep_highest([lambda: self.score(weight, statistics)], keep)
        return weight.masked_fill(~mask, 0), mask
