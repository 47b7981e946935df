"""Sparse weights, and what they compute in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sparsity.kernel import layout
from sparsity.kernel.build import builds, parallel
from sparsity.kernel.layers import PackedLinear
from sparsity.kernel.operators import NUMBERS, register

BUILDS = tuple(builds())
"""That this processor runs, the best first."""
TILES = (1, 4, 8, 16, 32, 64)
"""Numbers of tokens of which each fills a tile of its own."""
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "gelu": nn.functional.gelu,
    "gelu_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "silu": nn.functional.silu,
    "relu": nn.functional.relu,
}
"""What each activation of the kernel stands for."""
THREADS_SHARED = bool(parallel())
"""Whether the kernel can use torch's threads here."""


register()


@dataclass(frozen=True)
class Sample:
    """A masked weight and perhaps a bias."""

    weight: torch.Tensor
    mask: torch.Tensor
    bias: torch.Tensor | None
    block_rows: int = 1

    @functools.cached_property
    def buffer(self) -> torch.Tensor:
        """As `layout.pack` makes it; unlike a layer's, its last block of rows may be cut short."""
        bias = None if self.bias is None else self.bias.numpy()
        return torch.from_numpy(layout.pack(self.weight.numpy(), self.mask.numpy(), bias, self.block_rows))

    def linear(self, x: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """By the kernel."""
        found: torch.Tensor = torch.ops.sparsity.packed_linear(
            x, self.buffer, len(self.weight), self.block_rows, NUMBERS[activation]
        )
        return found

    def feed_forward(self, down: Sample, x: torch.Tensor, activation: str) -> torch.Tensor:
        """By the kernel, itself as the first of the two matrices."""
        found: torch.Tensor = torch.ops.sparsity.packed_feed_forward(
            *(x, self.buffer, len(self.weight), down.buffer, len(down.weight)),
            *(self.block_rows, down.block_rows, NUMBERS[activation]),
        )
        return found

    def packed(self, activation: str = "none") -> PackedLinear:
        layer = PackedLinear(self.weight, self.mask, self.bias, "sample")
        layer.activation = activation
        return layer

    def exact(self, x: torch.Tensor) -> torch.Tensor:
        """In float64, before any activation."""
        return nn.functional.linear(x.double(), self.weight.double(), None if self.bias is None else self.bias.double())

    def size(self, x: torch.Tensor) -> float:
        """The norm of what the outputs would be if nothing cancelled out: what rounding errors are relative to."""
        bias = None if self.bias is None else self.bias.abs().double()
        return float(nn.functional.linear(x.abs().double(), self.weight.abs().double(), bias).norm())


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def sample(
    rows: int, columns: int, sparsity: float = 0.8, block_rows: int = 1, bias: bool = True, seed: int = 0
) -> Sample:
    """A random weight; each block of so many rows, one of which may be cut short, keeps the same columns."""
    source = generator(seed)
    mask = torch.rand(-(-rows // block_rows), columns, generator=source) >= sparsity
    mask = mask.repeat_interleave(block_rows, 0)[:rows]
    weight = torch.randn(rows, columns, generator=source) * mask
    return Sample(weight, mask, torch.randn(rows, generator=source) if bias else None, block_rows)
