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
SMALL = 128
"""Up to so many rows a triangular matrix is inverted by substitution."""
MORE = 10.0
"""By which damping grows when the matrix is still not positive definite."""


class Inverse(NamedTuple):
    """The inverse of a damped Hessian, H^-1 = root^T root."""

    root: torch.Tensor
    """(in, in) float64, upper triangular: the Cholesky factor of the inverse."""
    dead: torch.Tensor
    """(in,) boolean: inputs that were always zero."""
    note: str | None
    """What had to be done to a singular one; None for one that was not."""

    @property
    def matrix(self) -> torch.Tensor:
        """The inverse itself, (in, in) float64."""
        return self.root.t() @ self.root


def inverse(hessian: torch.Tensor, tokens: int) -> Inverse:
    """Invert a Hessian of a layer, damped.

    Args:
        hessian: (in, in) float64, the sum of x x^T over tokens.
        tokens: how many; fewer than inputs make it singular.

    Raises:
        BadValue: it is not finite.
    """
    import torch

    if not bool(torch.isfinite(hessian).all()):
        raise BadValue("the inputs of a layer are not finite, so there is no Hessian; look for NaN or overflow")
    # From the last input to the first: with H reversed = L L^T, reversing L gives an upper R with H = R R^T,
    # and R^-1 is the upper factor of the inverse. One factorisation and a triangular inverse, where inverting
    # first and factorising then takes twice the work.
    damped = hessian.flip(0, 1)
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
    return Inverse(_inverse_of_upper(factor.flip(0, 1)), dead.flip(0), note)


def _inverse_of_upper(upper: torch.Tensor) -> torch.Tensor:
    """The inverse of an upper triangular matrix, by halves: large products instead of long substitutions."""
    import torch

    size = len(upper)
    if size <= SMALL:
        unit = torch.eye(size, dtype=upper.dtype, device=upper.device)
        return torch.linalg.solve_triangular(upper, unit, upper=True)  # type: ignore[no-any-return]  # torch leaves it untyped
    half = size // 2
    result = torch.zeros_like(upper)
    first, second = _inverse_of_upper(upper[:half, :half]), _inverse_of_upper(upper[half:, half:])
    result[:half, :half], result[half:, half:] = first, second
    result[:half, half:] = -(first @ upper[:half, half:]) @ second
    return result
