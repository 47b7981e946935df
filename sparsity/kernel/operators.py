"""The kernel as torch operators: `sparsity::packed_linear` and `sparsity::packed_feed_forward`.

They work under `inference_mode`, `no_grad` and `torch.compile(fullgraph=True)`. They have no gradient.

Refuses: an input that is not fp32 on a CPU.
"""

from __future__ import annotations

import functools

import torch

from sparsity.kernel import engine
from sparsity.kernel.activations import ACTIVATIONS

NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}
SCHEMAS = (
    "packed_linear(Tensor x, Tensor packed, int out_features, int block_rows, int activation) -> Tensor",
    "packed_feed_forward(Tensor x, Tensor up, int hidden, Tensor down, int out_features, "
    " int up_block_rows, int down_block_rows, int activation) -> Tensor",
)


def packed_linear(
    x: torch.Tensor, packed: torch.Tensor, out_features: int, block_rows: int, activation: int
) -> torch.Tensor:
    """act(x W' + b): `(..., in_features)` to `(..., out_features)`."""
    y, rows = _output(x, out_features), _rows(x)
    weight = engine.Weight(packed, out_features, x.shape[-1], block_rows)
    engine.linear(rows, weight, activation, y.view(len(rows), out_features))
    return y


def packed_feed_forward(
    x: torch.Tensor,
    up: torch.Tensor,
    hidden: int,
    down: torch.Tensor,
    out_features: int,
    up_block_rows: int,
    down_block_rows: int,
    activation: int,
) -> torch.Tensor:
    """act(x U' + c) D' + b: `(..., in_features)` to `(..., out_features)`."""
    y, rows = _output(x, out_features), _rows(x)
    first = engine.Weight(up, hidden, x.shape[-1], up_block_rows)
    second = engine.Weight(down, out_features, hidden, down_block_rows)
    engine.feed_forward(rows, first, second, activation, y.view(len(rows), out_features))
    return y


def _output(x: torch.Tensor, features: int) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], features)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """x as a contiguous matrix."""
    if x.dtype != torch.float32:
        raise TypeError(f"packed layers compute in float32, not {x.dtype}; cast the input")
    return x.reshape(-1, x.shape[-1]).contiguous()


def _linear_shape(
    x: torch.Tensor, packed: torch.Tensor, out_features: int, block_rows: int, activation: int
) -> torch.Tensor:
    del packed, block_rows, activation
    return _output(x, out_features)


def _feed_forward_shape(
    x: torch.Tensor,
    up: torch.Tensor,
    hidden: int,
    down: torch.Tensor,
    out_features: int,
    up_block_rows: int,
    down_block_rows: int,
    activation: int,
) -> torch.Tensor:
    del up, hidden, down, up_block_rows, down_block_rows, activation
    return _output(x, out_features)


@functools.cache
def register() -> torch.library.Library:
    """Makes the operators known to torch, once."""
    library = torch.library.Library("sparsity", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    for key, linear, pair in (
        ("CPU", packed_linear, packed_feed_forward),
        ("Meta", _linear_shape, _feed_forward_shape),
    ):
        library.impl("packed_linear", linear, key)
        library.impl("packed_feed_forward", pair, key)
    return library
