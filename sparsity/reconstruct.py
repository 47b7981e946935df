"""Layer-wise reconstruction: the weights that stay make up for those that went, by least squares.

With H the sum of x x^T over calibration tokens, each row w of a layer gets the kept weights that minimise
(w - d) H (w - d)^T, d the row of the unpruned weight: the objective of Frantar & Alistarh 2023, equation 1,
with the mask fixed. Block by block, on what the blocks before give after they were mended, while the block itself
still holds its unpruned weights: once what makes an input is gone, nothing tells what that input was for. No
labels, no gradients. Solved by conjugate gradients on the kept weights of all rows at once, preconditioned by the
diagonal (Saad: Iterative Methods for Sparse Linear Systems, 2nd ed., algorithm 9.1), which never makes the
error, with the little that damps H, larger than it was.

Refuses inputs that are not finite: weights fitted to them would not be either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity import gather
from sparsity.calibration import HESSIAN
from sparsity.errors import BadValue
from sparsity.hessian import DAMPING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.tasks.batching import Batch

ITERATIONS = 100
ENOUGH = 1e-5
"""Of the residual that it began with; what is left is below the weights' own precision."""


def reconstruct(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    masks: Sequence[torch.Tensor],
    dense: Sequence[PrunableLayer],
    batches: Sequence[Batch],
) -> None:
    """Mend the kept weights of every layer, in place.

    Args:
        model: the masked dense model.
        layers: its prunable layers.
        masks: one for each, `(out_features, in_features)`, True = kept.
        dense: the same layers of the unpruned model.
        batches: calibration.

    Raises `Refused` for a model that cannot be calibrated, `BadValue` where a layer's inputs are not finite.
    """
    gather.check(model)
    seeds = [(0, position) for position in range(len(layers))]
    masked = [layer.weight.clone() for layer in layers]
    for layer, whole in zip(layers, dense, strict=True):
        layer.weight.copy_(whole.weight)
    for block in gather.in_sequence(model, layers, batches, {HESSIAN}, seeds):
        for position, statistics in block:
            assert statistics.hessian is not None  # it was asked for
            mended = solve(masked[position], masks[position], dense[position].weight, statistics.hessian)
            layers[position].weight.copy_(mended)


def solve(weight: torch.Tensor, mask: torch.Tensor, dense: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """The kept weights that come nearest to the dense layer's outputs, zeros elsewhere.

    Args:
        weight: where to begin, `(out, in)`, zeros where the mask is False.
        mask: True = kept.
        dense: the weight whose outputs are wanted.
        hessian: `(in, in)` float64.
    """
    import torch

    if not bool(torch.isfinite(hessian.sum())):  # one that is not makes the sum so
        raise BadValue(
            "the inputs of a layer are not finite, so nothing can be fitted to them; look for NaN or overflow"
        )
    damped = hessian.clone()
    damped.diagonal().add_(DAMPING * float(hessian.diagonal().mean()))
    diagonal = damped.diagonal().clamp_min(torch.finfo(damped.dtype).tiny)  # 0 where all inputs were always zero
    found, kept = weight.double(), mask.double()
    residual = ((dense.double() - found) @ damped) * kept  # (out, in): minus the gradient
    scaled = residual / diagonal
    direction, product = scaled, (residual * scaled).sum(1, keepdim=True)
    least = product * ENOUGH**2
    for _ in range(ITERATIONS):
        if bool((product <= least).all()):
            break
        curved = (direction @ damped) * kept
        curvature = (direction * curved).sum(1, keepdim=True)
        length = torch.where(product > least, product / curvature.clamp_min(1e-300), 0.0)
        found = found + length * direction
        residual = residual - length * curved
        scaled = residual / diagonal
        before, product = product, (residual * scaled).sum(1, keepdim=True)
        direction = scaled + product / before.clamp_min(1e-300) * direction
    return torch.where(mask, found.to(weight.dtype), 0.0)
