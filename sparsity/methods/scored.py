"""The adapter that makes a pruning method out of a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.methods.protocol import Chosen, ColumnsScore, Score, Target

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern

Refuses = Callable[["ElementPattern | GroupPattern", str], "str | None"]


def refuses_nothing(pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
    """A score of single weights can be pooled and compared in any way."""
    del pattern, scope
    return None


@dataclass(frozen=True)
class Scored:
    """A method that is nothing but its score. What each field means is said in `protocol.PruningMethod`."""

    score: Score
    needs: frozenset[str] = frozenset()
    stochastic: bool = False
    sequential: bool = False
    columns_score: ColumnsScore | None = None
    refuses: Refuses = refuses_nothing
    prune_groups: None = None

    def prune_layer(self, weight: torch.Tensor, statistics: LayerStatistics, target: Target) -> Chosen:
        """The weight itself, and the mask that removes its lowest-scored units."""
        return Chosen(weight, target.choose(self.score(weight, statistics)))
