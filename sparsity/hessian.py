"""The factor of a layer's Hessian, as the second-order methods need it.

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


class Factor(NamedTuple):
    """A damped Hessian H, factored from its last input to its first: H = upper upper^T."""

    upper: torch.Tensor
    """(in, in) float64, upper triangular. The inverse of a corner of it is that corner of the Cholesky factor of
    H^-1 (H^-1 = R^T R with R = upper^-1), which is what the second-order methods sweep with."""
    dead: torch.Tensor
    """(in,) boolean: inputs that were always zero."""
    note: str | None
    """What had to be done to a singular one; None for one that was not."""

    @property
    def inverse(self) -> torch.Tensor:
        """H^-1, (in, in) float64."""
        import torch

        return torch.cholesky_inverse(self.upper.flip(0, 1)).flip(0, 1)


def factor(hessian: torch.Tensor, tokens: int) -> Factor:
    """Damp and factor the Hessian of a layer.

    Args:
        hessian: (in, in) float64, the sum of x x^T over tokens.
        tokens: how many; fewer than inputs make it singular.

    Raises:
        BadValue: it is not finite.
    """
    import torch

    if not bool(torch.isfinite(hessian.sum())):  # one that is not makes the sum so
        raise BadValue("the inputs of a layer are not finite, so there is no Hessian; look for NaN or overflow")
    damped = hessian.flip(0, 1)  # a copy, reversed: its lower factor, reversed again, is the upper one
    diagonal = damped.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1.0
    mean, damping = float(diagonal.mean()), DAMPING
    diagonal += damping * mean
    lower, failed = torch.linalg.cholesky_ex(damped)
    while int(failed):
        diagonal += (MORE - 1) * damping * mean
        damping *= MORE
        lower, failed = torch.linalg.cholesky_ex(damped)
    why = []
    if int(dead.sum()):
        why.append(f"{int(dead.sum())} inputs were always zero")
    if tokens < len(hessian):
        why.append(f"{tokens} tokens for {len(hessian)} inputs")
    if damping > DAMPING:
        why.append("not positive definite")
    note = f"singular Hessian ({', '.join(why)}), damped by {damping:.0%} of its mean diagonal" if why else None
    return Factor(lower.flip(0, 1), dead.flip(0), note)
