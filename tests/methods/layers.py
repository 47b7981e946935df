"""Made-up layers for the methods to prune: weights, inputs that hang together, and what is known of them."""

from __future__ import annotations

import torch

from sparsity import pattern
from sparsity.calibration import LayerStatistics
from sparsity.methods.protocol import Target

SEED = 5


def weight(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Seeded normal numbers, (rows, columns); no two alike and none zero."""
    return torch.randn(rows, columns, generator=_chance(), dtype=torch.float64).to(dtype)


def inputs(tokens: int, columns: int) -> torch.Tensor:
    """(tokens, columns) float64: each input a mixture of all, some ten times larger than others."""
    chance = _chance()
    mixture = torch.eye(columns, dtype=torch.float64)
    mixture += torch.randn(columns, columns, generator=chance, dtype=torch.float64) / columns**0.5
    size = 10 ** torch.rand(columns, generator=chance, dtype=torch.float64)
    return torch.randn(tokens, columns, generator=chance, dtype=torch.float64) @ mixture * size


def known(x: torch.Tensor, seed: tuple[int, int] = (0, 0)) -> LayerStatistics:
    """Everything that the methods ask for; gradients and influence are made up."""
    batches = x.reshape(2, -1, x.shape[1]) if len(x) % 2 == 0 else x[None]
    return LayerStatistics(
        seed,
        tokens=len(x),
        squares=x.square().sum(0),
        hessian=x.t() @ x,
        squared_gradients=1 / (1 + torch.arange(x.shape[1], dtype=torch.float64)),
        saliences=batches.mean(1),
        influence=0.25,
    )


def target(text: str, remove: int, *, per_row: bool = False) -> Target:
    """What a mask must be, by the text of its pattern."""
    shape = pattern.parse(text)
    assert not isinstance(shape, pattern.GroupPattern)
    return Target(shape, remove, per_row)


def _chance() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
