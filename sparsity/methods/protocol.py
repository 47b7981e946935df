"""What a pruning method is.

Methods are told apart from patterns and scopes: a method says how much each weight, or each group of
weights, is worth; which weights go together and where they compete is asked of a `Target`. Most
methods are nothing but a score (`scored.Scored`); one that also changes the weights it keeps
implements `prune_layer`, or `prune_groups` for groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sparsity.mask import keep_highest, keep_highest_in_rows

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern

Score = Callable[["torch.Tensor", "LayerStatistics"], "torch.Tensor"]
"""(weight (out, in), what is known of the layer) → score of the same shape, high = keep."""
ColumnsScore = Callable[["torch.Tensor", "LayerStatistics", "torch.Tensor"], "torch.Tensor"]
"""(weight (out, in) that reads the groups, what is known of its layer, columns (groups, members)) → (groups,)."""


@dataclass(frozen=True)
class Target:
    """What one matrix's mask must be."""

    pattern: ElementPattern
    remove: int
    """Units to remove: of the matrix, or of each row of units."""
    per_row: bool = False

    def choose(self, score: torch.Tensor) -> torch.Tensor:
        """The mask (out, in) that keeps the highest scores; score is (out, in)."""
        units = self.pattern.pool(score)
        if self.per_row:
            kept = keep_highest_in_rows(units, units.shape[1] - self.remove)
        else:
            (kept,) = keep_highest([lambda: units], units.numel() - self.remove)
        return self.pattern.spread(kept, *score.shape)


class Chosen(NamedTuple):
    """What becomes of one matrix."""

    weight: torch.Tensor
    """(out, in), mended where the method mends; what it holds where the mask is False is not looked at."""
    mask: torch.Tensor
    """(out, in) boolean, True = kept."""
    note: str | None = None
    """What a reader of the result should know, such as a singular Hessian."""

    @property
    def pruned(self) -> torch.Tensor:
        """The weight with its zeros, (out, in)."""
        import torch

        return torch.where(self.mask, self.weight, 0)


class ChosenGroups(NamedTuple):
    """What becomes of the matrix that reads a set of groups."""

    weight: torch.Tensor
    """(out, in), 0 in the columns of removed groups."""
    kept: torch.Tensor
    """(groups,) boolean."""
    note: str | None = None


class PruneGroups(Protocol):
    """Removes whole groups of a matrix's inputs and mends the rest."""

    def __call__(
        self, weight: torch.Tensor, statistics: LayerStatistics, columns: torch.Tensor, remove: int
    ) -> ChosenGroups:
        """`columns` (groups, members): the inputs that each group makes; `remove` of the groups go."""


class PruningMethod(Protocol):
    """Chooses, in one layer, which weights stay; may change the kept ones too."""

    @property
    def needs(self) -> frozenset[str]:
        """What calibration must gather (`calibration.STATISTICS`); empty for a method that looks at weights alone."""

    @property
    def stochastic(self) -> bool:
        """Whether another seed gives another choice."""

    @property
    def sequential(self) -> bool:
        """Whether a layer's statistics should be those behind already pruned layers."""

    @property
    def score(self) -> Score | None:
        """The score by which layers may compete with each other; None where there is none."""

    @property
    def columns_score(self) -> ColumnsScore | None:
        """The worth of groups by the matrix that reads them; None: the sum of their weights' scores."""

    @property
    def prune_groups(self) -> PruneGroups | None:
        """Removal of groups with mending; None for a method that only scores."""

    def refuses(self, pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
        """Why the method cannot do this pattern in this scope, or None."""

    def prune_layer(self, weight: torch.Tensor, statistics: LayerStatistics, target: Target) -> Chosen:
        """The new weight and its mask."""
