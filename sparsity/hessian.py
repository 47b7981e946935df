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

    reversed: torch.Tensor
    """(in, in) float64, `upper` with rows and columns in reverse order, as it was made: a copy would be as large."""
    dead: torch.Tensor
    """(in,) boolean: inputs that were always zero."""
    note: str | None
    """What had to be done to a singular one; None for one that was not."""

    @property
    def upper(self) -> torch.Tensor:
        """(in, in) float64, upper triangular.

        The inverse of a corner of it is that corner of the Cholesky factor of H^-1 (H^-1 = R^T R with R = upper^-1),
        which is what the second-order methods sweep with.
        """
        return self.reversed.flip(0, 1)

    def part(self, rows: slice, columns: slice) -> torch.Tensor:
        """`upper[rows, columns]`, without making the rest; the slices say where they end."""
        size = len(self.reversed)
        there = (slice(size - each.stop, size - each.start) for each in (rows, columns))
        return self.reversed[tuple(there)].flip(0, 1)

    @property
    def inverse(self) -> torch.Tensor:
        """H^-1, (in, in) float64."""
        import torch

        return torch.cholesky_inverse(self.reversed).flip(0, 1)


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
    dead = hessian.diagonal() == 0
    diagonal = hessian.diagonal().masked_fill(dead, 1.0)
    mean, damping = float(diagonal.mean()), DAMPING
    while (lower := _factored(hessian, diagonal + damping * mean)) is None:
        damping *= MORE
    why = []
    if int(dead.sum()):
        why.append(f"{int(dead.sum())} inputs were always zero")
    if tokens < len(hessian):
        why.append(f"{tokens} tokens for {len(hessian)} inputs")
    if damping > DAMPING:
        why.append("not positive definite")
    note = f"singular Hessian ({', '.join(why)}), damped by {damping:.0%} of its mean diagonal" if why else None
    return Factor(lower, dead, note)


def _factored(hessian: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor | None:
    """The lower factor of the reversed matrix with this diagonal; None where it is not positive definite."""
    import torch

    matrix = hessian.flip(0, 1)  # a copy, reversed: its lower factor, reversed again, is the upper one
    matrix.diagonal().copy_(diagonal.flip(0))
    # In the copy's place, column by column as LAPACK wants it (it is symmetric): it may be as large as all of a block.
    failed = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(matrix.t(), out=(matrix.t(), failed))
    return None if int(failed) else matrix.t()
