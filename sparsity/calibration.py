"""What a method may know of a layer beyond its weight: chance, and what it saw of its inputs and gradients.

Values only; `sparsity.gather` runs models to get them. A method names what it needs in `needs`; what
was not gathered is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from sparsity.hessian import Factor

INPUT_NORMS = "input norms"
HESSIAN = "hessian"
FACTOR = "factored hessian"
GRADIENTS = "gradients"
INFLUENCE = "block influence"
STATISTICS = (INPUT_NORMS, HESSIAN, FACTOR, GRADIENTS, INFLUENCE)
"""What can be gathered. A token is one position that holds text; padding counts nowhere."""


@dataclass(frozen=True)
class LayerStatistics:
    """What is known of one layer."""

    seed: tuple[int, int] = (0, 0)
    """(the run's seed, the layer's position in the model)."""
    tokens: int = 0
    """How many inputs were seen."""
    squares: torch.Tensor | None = None
    """Sum over tokens of x^2, (in,) float64."""
    hessian: torch.Tensor | None = None
    """Sum over tokens of x x^T, (in, in) float64: half the Hessian of the squared error of the outputs."""
    factor: Factor | None = None
    """That matrix, damped and factored, in its place: a method that needs no more never has both in memory."""
    squared_gradients: torch.Tensor | None = None
    """Mean over batches of (dL/dw)^2, (out, in)."""
    saliences: torch.Tensor | None = None
    """For each batch the sum over outputs of w dL/dw, (batches, in): how much the loss hangs on each input."""
    influence: float | None = None
    """Of the layer's block: 1 - mean cosine of what goes in and what comes out."""

    def generator(self) -> torch.Generator:
        """A fresh source of chance, the same at every call: scores may be computed more than once."""
        import torch

        run, position = self.seed
        return torch.Generator().manual_seed(run * 1_000_003 + position)

    @property
    def input_norms(self) -> torch.Tensor:
        """L2 norm over tokens of each input, (in,) float64."""
        assert self.squares is not None  # a method that reads it has named it in `needs`
        return self.squares.sqrt()
