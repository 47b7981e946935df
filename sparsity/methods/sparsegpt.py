"""SparseGPT: removes weights column by column and lets the later columns make up for each.

Frantar, Alistarh: SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, ICML 2023
(arXiv 2301.00774), algorithm 1 with block and mask-selection size 128 and 1 % damping. A weight is
worth w^2 / [U_jj]^2, U the upper Cholesky factor of the inverse Hessian; scores compete in each block
of columns, for n:m in each m of a row. How many each block loses is rounded so that the sum is exact.

U itself is never formed. With H = R R^T, R upper triangular, U = R^-1 and each diagonal block of U is the
inverse of R's; what the columns of a block must make up for follows from what the earlier columns lost
in all, e, by solving x R_BB = e R_:B. So one factorisation does, where the paper's code makes two and an
inverse. The factor is float64, the sweep in the weight's precision (float32 at least).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.calibration import FACTOR
from sparsity.hessian import factor
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

    needs = frozenset({FACTOR})
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

        known = statistics.factor
        if known is None:  # whoever has the matrix alone
            assert statistics.hessian is not None
            known = factor(statistics.hessian, statistics.tokens)
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        # (in, out): a column of the weight is a row here, side by side. A copy: a Conv1D stores it like this.
        columns = weight.t().to(wide, copy=True, memory_format=torch.contiguous_format)
        columns[known.dead] = 0
        kept = torch.ones_like(columns, dtype=torch.bool)
        errors = torch.empty_like(columns)  # what was lost of each column so far, mending included
        size, m = len(columns), target.pattern.m if isinstance(target.pattern, NM) else 1
        step = max(1, BLOCK // m) * m
        for start in range(0, size, step):
            part = slice(start, min(size, start + step))
            before, after = (target.remove * at // size for at in (part.start, part.stop))
            inner = torch.linalg.inv(known.part(part, part)).to(wide)  # that corner of the factor of H^-1
            # What the columns before lost, all later columns make up for together: these by so much.
            upper = known.part(slice(0, start), part).to(wide)
            mending = inner.t() @ (upper.t() @ errors[:start])
            original = columns[part].clone()
            columns[part] += mending
            _sweep(columns[part], kept[part], inner, target, after - before)
            errors[part] = original - columns[part]
        return Chosen(columns.t().to(weight.dtype), kept.t(), known.note)


def _sweep(block: torch.Tensor, mask: torch.Tensor, inner: torch.Tensor, target: Target, remove: int) -> None:
    """Prunes a block of columns, the later making up for the earlier, in place. `block`, `mask`: (columns, out)."""
    scale = inner.diagonal().square()[:, None]
    pattern = target.pattern
    if not isinstance(pattern, NM):
        score = (block.square() / scale).t()
        mask[:] = keep_highest([lambda: score], score.numel() - remove)[0].t()
    for j in range(len(block)):
        if isinstance(pattern, NM) and j % pattern.m == 0:
            group = slice(j, j + pattern.m)
            mask[group] = keep_highest_in_rows((block[group].square() / scale[group]).t(), pattern.n).t()
        lost = block[j].masked_fill(mask[j], 0).div_(inner[j, j])
        block[j].masked_fill_(~mask[j], 0)
        block[j + 1 :].addr_(inner[j, j + 1 :], lost, alpha=-1)


METHOD = SparseGPT()
