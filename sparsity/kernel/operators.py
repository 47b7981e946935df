"""The kernel as torch operators: `sparsity::packed_linear` and `sparsity::packed_feed_forward`.

They work under `inference_mode`, `no_grad` and `torch.compile(fullgraph=True)`. They have no gradient.

Refuses: an input or bias that is not fp32 on a CPU, or whose last dimension is not the weight's.
"""

from __future__ import annotations

import functools

import torch

from sparsity.kernel import engine
from sparsity.kernel.activations import ACTIVATIONS

NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}
SCHEMAS = (
    "packed_linear(Tensor x, Tensor packed, Tensor? bias, int out_features, int block_rows, int activation) -> Tensor",
    "packed_feed_forward(Tensor x, Tensor up, Tensor? up_bias, int hidden, Tensor down, Tensor? down_bias, "
    "int out_features, int up_block_rows, int down_block_rows, int activation) -> Tensor",
)


def packed_linear(
    x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, out_features: int, block_rows: int, activation: int
) -> torch.Tensor:
    """act(x W' + b): `(..., in_features)` to `(..., out_features)`."""
    y, rows = _output(x, out_features), _rows(x, bias)
    weight = engine.Weight(packed, bias, out_features, x.shape[-1], block_rows)
    engine.linear(rows, weight, activation, y.view(len(rows), out_features))
    return y


def packed_feed_forward(
    x: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor | None,
    hidden: int,
    down: torch.Tensor,
    down_bias: torch.Tensor | None,
    out_features: int,
    up_block_rows: int,
    down_block_rows: int,
    activation: int,
) -> torch.Tensor:
    """act(x U' + c) D' + b: `(..., in_features)` to `(..., out_features)`."""
    y, rows = _output(x, out_features), _rows(x, up_bias, down_bias)
    first = engine.Weight(up, up_bias, hidden, x.shape[-1], up_block_rows)
    second = engine.Weight(down, down_bias, out_features, hidden, down_block_rows)
    engine.feed_forward(rows, first, second, activation, y.view(len(rows), out_features))
    return y


def _output(x: torch.Tensor, features: int) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], features)


def _rows(x: torch.Tensor, *biases: torch.Tensor | None) -> torch.Tensor:
    """x as a contiguous matrix."""
    for tensor in (x, *biases):
        if tensor is not None and tensor.dtype != torch.float32:
            raise TypeError(f"packed layers compute in float32, not {tensor.dtype}; convert the model before its format")
    return x.reshape(-1, x.shape[-1]).contiguous()


def _linear_shape(
    x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, out_features: int, block_rows: int, activation: int
) -> torch.Tensor:
    del packed, bias, block_rows, activation
    return _output(x, out_features)


def _feed_forward_shape(
    x: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor | None,
    hidden: int,
    down: torch.Tensor,
    down_bias: torch.Tensor | None,
    out_features: int,
    up_block_rows: int,
    down_block_rows: int,
    activation: int,
) -> torch.Tensor:
    del up, up_bias, hidden, down, down_bias, up_block_rows, down_block_rows, activation
    return _output(x, out_features)


@functools.cache
def register() -> torch.library.Library:
    """Makes the operators known to torch, once."""
    library = torch.library.Library("sparsity", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    for key, linear, pair in (("CPU", packed_linear, packed_feed_forward), ("Meta", _linear_shape, _feed_forward_shape)):
        library.impl("packed_linear", linear, key)
        library.impl("packed_feed_forward", pair, key)
    return library
