"""SparseGPT: removes weights column by column and lets the later columns make up for each.

Frantar, Alistarh: SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, ICML 2023
(arXiv 2301.00774), algorithm 1 with block and mask-selection size 128 and 1 % damping. A weight is
worth w^2 / [U_jj]^2, U the upper Cholesky factor of the inverse Hessian; scores compete in each block
of columns, for n:m in each m of a row. How many each block loses is rounded so that the sum is exact.

The inverse is float64, the sweep over the columns in the weight's precision (float32 at least).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.calibration import HESSIAN
from sparsity.hessian import inverse
from sparsity.mask import keep_highest, keep_highest_in_rows
from sparsity.methods.protocol import Chosen, Target
from sparsity.pattern import NM, Unstructured

if TYPE_CHECKING:
    import torch

    from sparsity.calibration import LayerStatistics
    from sparsity.pattern import ElementPattern, GroupPattern

BLOCK = 128
"""Columns swept before the rest is updated, and among which scores compete."""


class SparseGPT:
    """Chooses and mends in one sweep."""

    needs = frozenset({HESSIAN})
    stochastic = False
    sequential = True
    score = None
    columns_score = None
    prune_groups = None

    def refuses(self, pattern: ElementPattern | GroupPattern, scope: str) -> str | None:
        """What its sweep cannot do."""
        if not isinstance(pattern, Unstructured | NM):
            return f"sparsegpt sweeps single columns, so it has no {pattern}; ziplm mends neurons and heads"
        if scope == "global":
            return "sparsegpt mends each layer as it prunes it, so layers cannot compete"
        if scope == "row" and isinstance(pattern, Unstructured):
            return "sparsegpt compares within blocks of columns over all rows; use scope layer"
        return None

    def prune_layer(self, weight: torch.Tensor, statistics: LayerStatistics, target: Target) -> Chosen:
        """The mended weight and its mask."""
        import torch

        assert statistics.hessian is not None  # it is in `needs`
        inverted = inverse(statistics.hessian, statistics.tokens)
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        upper = inverted.root.to(wide)
        # (in, out): a column of the weight is a row here, side by side. Always a copy: a Conv1D stores it like this.
        columns = weight.t().to(wide, copy=True, memory_format=torch.contiguous_format)
        columns[inverted.dead] = 0
        kept = torch.ones_like(columns, dtype=torch.bool)
        size = len(columns)
        step = BLOCK if not isinstance(target.pattern, NM) else max(1, BLOCK // target.pattern.m) * target.pattern.m
        for start in range(0, size, step):
            end = min(size, start + step)
            removed_before, removed_after = (target.remove * at // size for at in (start, end))
            _sweep(columns, kept, upper, range(start, end), target, removed_after - removed_before)
        return Chosen(columns.t().to(weight.dtype), kept.t(), inverted.note)


def _sweep(
    columns: torch.Tensor, kept: torch.Tensor, upper: torch.Tensor, part: range, target: Target, remove: int
) -> None:
    """Prunes a block of columns and updates everything behind it, in place. `columns`, `kept`: (in, out)."""
    import torch

    start, end = part.start, part.stop
    block, mask = columns[start:end], kept[start:end]
    inner = upper[start:end, start:end]
    scale = inner.diagonal().square()[:, None]
    pattern = target.pattern
    if not isinstance(pattern, NM):
        score = (block.square() / scale).t()
        mask[:] = keep_highest([lambda: score], score.numel() - remove)[0].t()
    errors = torch.empty_like(block)
    for j in range(len(block)):
        if isinstance(pattern, NM) and j % pattern.m == 0:
            group = slice(j, j + pattern.m)
            mask[group] = keep_highest_in_rows((block[group].square() / scale[group]).t(), pattern.n).t()
        torch.div(block[j].masked_fill(mask[j], 0), inner[j, j], out=errors[j])
        block[j].masked_fill_(~mask[j], 0)
        block[j + 1 :].addr_(inner[j, j + 1 :], errors[j], alpha=-1)
    columns[end:].addmm_(upper[start:end, end:].t(), errors, alpha=-1)


METHOD = SparseGPT()
