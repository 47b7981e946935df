"""ZipLM: removes the neurons and heads that the layer's output misses least, and mends what reads the rest.

Kurtic, Frantar, Alistarh: ZipLM: Inference-Aware Structured Pruning of Language Models, NeurIPS 2023
(arXiv 2302.04089), section 3.1, for encoders and decoders alike. With H the Hessian of the matrix that
reads the groups, a group S costs the sum over rows of w_S (H^-1_SS)^-1 w_S^T; removing it changes the
row by -w_S (H^-1_SS)^-1 H^-1_S:, and H^-1 as by elimination. The paper removes one group at a time;
here in at most `ROUNDS` rounds, so that thousands of neurons take seconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sparsity.calibration import HESSIAN
from sparsity.errors import Refused
from sparsity.hessian import factor
from sparsity.methods.protocol import Chosen, ChosenGroups, Target
from sparsity.pattern import Groups

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern

ROUNDS = 64
"""Groups are chosen anew after each; up to so many groups are removed one at a time."""


class ZipLM:
    """Chooses and mends groups."""

    needs = frozenset({HESSIAN})
    stochastic = False
    sequential = True
    score = None
    columns_score = None

    def refuses(self, pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
        """What is not neurons or heads, and competition between layers."""
        if not isinstance(pattern, Groups):
            return "ziplm removes neurons and heads, and nothing else"
        if scope == "global":
            return "ziplm mends each layer as it prunes it, so layers cannot compete; use scope layer"
        return None

    def prune_layer(self, weight: torch.Tensor, statistics: LayerStatistics, target: Target) -> Chosen:
        """Refused: it has no single weights."""
        raise Refused(f"ziplm removes neurons and heads, not {target.pattern}")

    def prune_groups(
        self, weight: torch.Tensor, statistics: LayerStatistics, columns: torch.Tensor, remove: int
    ) -> ChosenGroups:
        """The mended matrix, and which of its groups stay."""
        import torch

        assert statistics.hessian is not None  # it is in `needs`
        known = factor(statistics.hessian, statistics.tokens)
        rest = known.inverse
        mended = weight.double().index_fill(1, known.dead.nonzero().flatten(), 0.0)  # what reads nothing costs nothing
        kept = torch.ones(len(columns), dtype=torch.bool, device=weight.device)
        removed, at_once = 0, math.ceil(remove / ROUNDS)
        while removed < remove:
            cost = _costs(mended, rest, columns)
            cost[~kept] = torch.inf
            worst = torch.argsort(cost, stable=True)[: min(at_once, remove - removed)]
            gone = columns[worst].reshape(-1)
            solved = torch.linalg.solve(rest[gone][:, gone], rest[gone])  # (gone, in)
            mended = mended - mended[:, gone] @ solved
            rest = rest - rest[:, gone] @ solved
            kept[worst] = False
            removed += len(worst)
            every = columns[~kept].reshape(-1)
            mended[:, every] = 0  # exactly: what was gone before must not come back by rounding
            rest[every] = 0
            rest[:, every] = 0
            rest[every, every] = 1  # a unit, so that it can be inverted; its cost is infinite
        return ChosenGroups(mended.to(weight.dtype), kept, known.note)


def _costs(weight: torch.Tensor, rest: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(groups,): what the output loses with each group, others making up for it."""
    import torch

    if columns.shape[1] == 1:  # one input for each group: a quotient
        single = columns[:, 0]
        return weight[:, single].square().sum(0) / rest.diagonal()[single]
    corners = rest[columns[:, :, None], columns[:, None, :]]  # (groups, members, members)
    parts = weight[:, columns].permute(1, 2, 0)  # (groups, members, out)
    costs: torch.Tensor = (parts * torch.linalg.solve(corners, parts)).sum((1, 2))
    return costs


METHOD = ZipLM()
