"""How much of each matrix stays, when not all lose the same share.

An allocation gives every matrix a density (the fraction it keeps) so that the whole model keeps what
was asked; `counts` makes whole numbers of it, exact in their sum. Inside each matrix scores then
compete as in scope `layer`.

Pure arithmetic, knows no model. Refuses nothing: what cannot be reached is capped at all and at one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

OUTLIER = 5.0
"""M of OWL: a weight counts as an outlier when its score is more than so many times its block's mean."""
SPAN = 0.08
"""Lambda of OWL: the densities span twice this."""


def erk(shapes: Sequence[tuple[int, int]], sparsity: float) -> list[float]:
    """Densities in proportion to (out + in) / (out x in): small matrices keep more. (layers,), each in (0, 1].

    Erdős-Rényi-Kernel, Evci et al.: Rigging the Lottery, ICML 2020 (arXiv 1911.11134), section 3 (1).
    A matrix that would keep more than all of itself keeps all, and the others share the rest.
    """
    sizes = [rows * columns for rows, columns in shapes]
    raw = [(rows + columns) / (rows * columns) for rows, columns in shapes]
    wanted = (1 - sparsity) * sum(sizes)
    whole: set[int] = set()
    while True:
        left = wanted - sum(sizes[i] for i in whole)
        weight = sum(raw[i] * sizes[i] for i in range(len(sizes)) if i not in whole)
        scale = left / weight if weight else 0.0
        beyond = {i for i in range(len(sizes)) if i not in whole and raw[i] * scale > 1}
        if not beyond:
            return [1.0 if i in whole else raw[i] * scale for i in range(len(sizes))]
        whole |= beyond


def owl(outliers: Sequence[float], sizes: Sequence[int], sparsity: float) -> list[float]:
    """Densities that grow with the share of outliers, over a range of 2 `SPAN`. (layers,), each in [0, 1].

    Yin et al.: Outlier Weighed Layerwise Sparsity, ICML 2024 (arXiv 2310.05175), section 3.2.

    Args:
        outliers: for each matrix, the share of the |w| x ‖x‖ of its block above `OUTLIER` times their mean.
        sizes: weights of each matrix.
        sparsity: of the whole model.
    """
    low, high = min(outliers), max(outliers)
    spread = [2 * SPAN * (o - low) / (high - low) if high > low else 0.0 for o in outliers]
    mean = sum(s * size for s, size in zip(spread, sizes, strict=True)) / sum(sizes)
    return [min(1.0, max(0.0, s - mean + 1 - sparsity)) for s in spread]


def counts(densities: Sequence[float], sizes: Sequence[int], keep: int) -> list[int]:
    """How many units each matrix keeps, `keep` in sum: by largest remainder, at least one each, at most all.

    Args:
        densities: what each matrix should keep, a fraction.
        sizes: units of each matrix.
        keep: units of all together, from the number of matrices to the sum of sizes.
    """
    exact = [density * size for density, size in zip(densities, sizes, strict=True)]
    kept = [min(size, max(1, math.floor(e))) for e, size in zip(exact, sizes, strict=True)]
    order = sorted(range(len(sizes)), key=lambda i: (kept[i] - exact[i], i))  # who is furthest below comes first
    missing = keep - sum(kept)
    step = 1 if missing > 0 else -1
    while missing:
        movable = [i for i in order[::step] if (kept[i] < sizes[i] if step > 0 else kept[i] > 1)]
        if not movable:
            return kept
        for i in movable[: abs(missing)]:
            kept[i] += step
            missing -= step
    return kept
