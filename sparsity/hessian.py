"""The inverse of a layer's Hessian, as the second-order methods need it.

Always float64: the Cholesky factor of a nearly singular matrix is noise in anything less. A little is
added to the diagonal as in the papers; where that is not enough more is added, and said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sparsity.errors import BadValue

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Of the mean of the diagonal; Frantar & Alistarh 2023, section 4."""
MORE = 10.0
"""By which damping grows when the matrix is still not positive definite."""


class Inverse(NamedTuple):
    """The inverse of a damped Hessian."""

    matrix: torch.Tensor
    """(in, in) float64."""
    dead: torch.Tensor
    """(in,) boolean: inputs that were always zero."""
    note: str | None
    """What had to be done to a singular one; None for one that was not."""


def inverse(hessian: torch.Tensor, tokens: int) -> Inverse:
    """Invert a Hessian of a layer, damped.

    Args:
        hessian: (in, in) float64, the sum of x x^T over tokens.
        tokens: how many; fewer than inputs make it singular.

    Raises:
        BadValue: it is not finite.
    """
    import torch

    if not bool(torch.isfinite(hessian.diagonal()).all()):
        raise BadValue("the inputs of a layer are not finite, so there is no Hessian; look for NaN or overflow")
    damped = hessian.clone()
    diagonal = damped.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1.0
    mean, damping = float(diagonal.mean()), DAMPING
    diagonal += damping * mean
    factor, failed = torch.linalg.cholesky_ex(damped)
    while int(failed):
        diagonal += (MORE - 1) * damping * mean
        damping *= MORE
        factor, failed = torch.linalg.cholesky_ex(damped)
    why = []
    if int(dead.sum()):
        why.append(f"{int(dead.sum())} inputs were always zero")
    if tokens < len(hessian):
        why.append(f"{tokens} tokens for {len(hessian)} inputs")
    if damping > DAMPING:
        why.append("not positive definite")
    note = f"singular Hessian ({', '.join(why)}), damped by {damping:.0%} of its mean diagonal" if why else None
    return Inverse(torch.cholesky_inverse(factor), dead, note)
