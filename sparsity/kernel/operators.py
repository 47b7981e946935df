"""The kernel as torch operators: `sparsity::packed_linear` and `sparsity::packed_feed_forward`.

They work under `inference_mode`, `no_grad` and `torch.compile(fullgraph=True)`. They have no gradient.

Refuses: an input that is not fp32 on a CPU, or not as wide as the weight.
"""

from __future__ import annotations

import ctypes
import functools

import torch

from sparsity.kernel.activations import ACTIVATIONS
from sparsity.kernel.engine import Tokens, Weight, feed_forward, linear

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
    own, y = _rows(x), _output(x, out_features)
    columns = x.shape[-1]
    count = x.numel() // columns
    weight = _weight(packed, out_features, columns, block_rows)
    tokens, results = Tokens(own.data_ptr(), count, columns), Tokens(y.data_ptr(), count, out_features)
    linear(tokens, weight, activation, results)
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
    own, y = _rows(x), _output(x, out_features)
    columns = x.shape[-1]
    count = x.numel() // columns
    first = _weight(up, hidden, columns, up_block_rows)
    second = _weight(down, out_features, hidden, down_block_rows)
    tokens, results = Tokens(own.data_ptr(), count, columns), Tokens(y.data_ptr(), count, out_features)
    feed_forward(tokens, first, second, activation, results)
    return y


_Sizes = ctypes.c_int64 * 3


def _weight(packed: torch.Tensor, rows: int, columns: int, block_rows: int) -> Weight:
    """What the kernel is given, which trusts it; so it must be what the buffer itself begins with."""
    address, called = packed.data_ptr(), (rows, columns, block_rows)
    if (held := tuple(_Sizes.from_address(address))) != called:
        own, other = ("{} x {} in blocks of {} rows".format(*sizes) for sizes in (held, called))
        raise ValueError(f"a packed weight of {own} was called as one of {other}")
    return Weight(address, *called)


def _output(x: torch.Tensor, features: int) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], features))


def _rows(x: torch.Tensor) -> torch.Tensor:
    """x, contiguous."""
    if x.dtype != torch.float32:
        raise TypeError(f"packed layers compute in float32, not {x.dtype}; cast the input")
    return x if x.is_contiguous() else x.contiguous()


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
    for key, one, pair in (
        ("CPU", packed_linear, packed_feed_forward),
        ("Meta", _linear_shape, _feed_forward_shape),
    ):
        library.impl("packed_linear", one, key)
        library.impl("packed_feed_forward", pair, key)
    return library
