"""Layers that run on the kernel: one matrix, or the two of a feed-forward part with what lies between.

Refuses: a weight that is not fp32 on a CPU; to be trained.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from sparsity.errors import Refused
from sparsity.kernel import layout
from sparsity.kernel.operators import NUMBERS, register

BLOCK_ROWS = (8, 4, 2)
"""Rows that may share their columns, the most first."""
register()  # here, since a layer that comes out of a pickle was not made by `__init__`


class _Evaluated(nn.Module):
    """A module without gradients, and without the dropout that training has in its midst."""

    def __init__(self) -> None:
        super().__init__()
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Raises `Refused` for the mode of training."""
        if mode:
            raise Refused("packed layers cannot be trained: train the masked dense model, then convert it")
        return super().train(mode)


class PackedLinear(_Evaluated):
    """act(x W' + b), of which only the kept weights are held."""

    packed: torch.Tensor

    def __init__(self, weight: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, name: str) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.block_rows = block_rows(mask)
        own = None if bias is None else bias.detach().numpy()
        packed = layout.pack(weight.contiguous().numpy(), mask.contiguous().numpy(), own, self.block_rows)
        self.register_buffer("packed", torch.from_numpy(packed))
        self.has_bias = bias is not None
        self.register_parameter("weight", None)  # some models look whether there is one, to follow its dtype
        self.layer_name = name
        """The prunable layer that it stands for."""
        self.activation = "none"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., in_features)` to `(..., out_features)`."""
        activation = NUMBERS[self.activation]
        return torch.ops.sparsity.packed_linear(  # type: ignore[no-any-return]  # torch leaves operators untyped
            x, self.packed, self.out_features, self.block_rows, activation
        )

    @property
    def bias(self) -> torch.Tensor | None:
        """A view of the bias, `(out_features,)`."""
        return torch.from_numpy(layout.bias_of(self.packed.numpy())) if self.has_bias else None

    def dense_weight(self) -> torch.Tensor:
        """The weight with its zeros in place, `(out_features, in_features)`."""
        return torch.from_numpy(layout.unpack(self.packed.numpy()))

    def extra_repr(self) -> str:
        """For `print(model)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, activation={self.activation}"


class PackedFeedForward(_Evaluated):
    """The second matrix of a feed-forward part, which does the work of the first and of the activation as well."""

    def __init__(self, up: PackedLinear, down: PackedLinear, activation: str) -> None:
        super().__init__()
        self.up, self.down, self.activation = up, down, activation
        self.register_parameter("weight", None)  # as in `PackedLinear`

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., in_features of up)` to `(..., out_features of down)`."""
        up, down = self.up, self.down
        return torch.ops.sparsity.packed_feed_forward(  # type: ignore[no-any-return]  # torch leaves operators untyped
            *(x, up.packed, up.out_features, down.packed, down.out_features),
            *(up.block_rows, down.block_rows, NUMBERS[self.activation]),
        )


class HandsOn(_Evaluated):
    """Stands where a later module does the work."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What it is given."""
        return x


def block_rows(mask: torch.Tensor) -> int:
    """The most rows that always keep the same columns: 8, 4, 2 or 1."""
    for rows in BLOCK_ROWS:
        if len(mask) % rows == 0:
            blocks = mask.reshape(-1, rows, mask.shape[1])
            if torch.equal(blocks[:, :1].expand_as(blocks), blocks):
                return rows
    return 1
