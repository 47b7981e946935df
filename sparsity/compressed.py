"""A linear layer whose weight is held compressed and multiplied by torch's own sparse products.

The weight is cut into square tiles, of which those that hold a kept weight are stored: row by row the number of
tiles so far (`crow_indices`), the position of each (`col_indices`), and its values. Tiles of one weight are
compressed sparse rows (CSR), larger ones block sparse rows (BSR).

The same tensor can be multiplied in ways that differ by an order of magnitude (torch 2.13 with MKL, Zen 4):

- `W @ x.T` takes a fifth of the time of `F.linear(x, W)`, which makes sparse weights slower than dense ones.
- MKL's product of tiles takes 4 to 50 times as long where the tokens are no multiple of 16: they are padded.
- Where inputs and outputs of all tokens leave the caches, some tokens at a time take up to half the time.
- For a single token there is the product with a vector; with tiles of 4 and 8 it is slower than a padded one.

Refuses: builds of torch without MKL, which on a CPU does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparsity.errors import Refused

if TYPE_CHECKING:
    import torch
    from torch import nn

TOKENS, AT_ONCE = 64, 1 << 17
"""On a CPU, `AT_ONCE` inputs or outputs are computed at a time, but never less than `TOKENS` tokens."""
STEP = 16
"""Tokens that MKL's products of tiles want multiples of."""
SLOW_WITH_A_VECTOR = (4, 8)
"""Tiles whose product with a vector takes MKL ten times as long as with a matrix."""
OPERATOR = "sparsity::compressed_linear"


def linear(weight: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, tile: int = 1) -> nn.Module:
    """The layer of a masked weight, `(out_features, in_features)` as its mask, whose sides are multiples of the tile.

    `bias` is shared. Raises `Refused` where this build of torch cannot multiply it.
    """
    import torch

    if not weight.is_cuda and not torch.backends.mkl.is_available():
        raise Refused("on a CPU torch multiplies compressed weights by MKL, and this build of torch is without it")
    made: nn.Module = _layer_class()(weight, mask, bias, tile)
    return made


def held(mask: torch.Tensor, tile: int) -> torch.Tensor:
    """For each tile, whether it holds a kept weight."""
    return mask.reshape(mask.shape[0] // tile, tile, mask.shape[1] // tile, tile).any(3).any(1)


def compress(weight: torch.Tensor, mask: torch.Tensor, tile: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(`crow_indices`, `col_indices`, values) of the tiles that hold a kept weight; indices are int32."""
    import torch

    cut = (weight.shape[0] // tile, tile, weight.shape[1] // tile, tile)
    rows, columns = held(mask, tile).nonzero(as_tuple=True)
    values = weight.reshape(cut).transpose(1, 2)[rows, columns]
    ends = rows.bincount(minlength=cut[0]).cumsum(0)
    crow = torch.cat([ends.new_zeros(1), ends]).to(torch.int32)
    return crow, columns.to(torch.int32), values.flatten() if tile == 1 else values


def expand(crow: torch.Tensor, col: torch.Tensor, values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The dense matrix again, bit for bit."""
    import torch

    tile = tile_of(values)
    tiles = values.new_zeros(rows // tile, columns // tile, tile, tile)
    row = torch.arange(len(tiles), device=crow.device).repeat_interleave(crow.diff())
    tiles[row, col.long()] = values.view(-1, tile, tile)
    return tiles.transpose(1, 2).reshape(rows, columns)


def tile_of(values: torch.Tensor) -> int:
    """The side of the stored tiles."""
    return 1 if values.ndim == 1 else values.shape[-1]


def product(
    crow: torch.Tensor, col: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor
) -> torch.Tensor:
    """`x @ W.T + bias` for x `(tokens, in_features)`."""
    import torch
    from torch.nn.functional import pad

    tile, (tokens, inputs) = tile_of(values), x.shape
    outputs = tile * (len(crow) - 1)
    layout = torch.sparse_csr if tile == 1 else torch.sparse_bsr
    size = (outputs, inputs)  # built at each call, in 3 µs: what is built once goes stale when the buffers are replaced
    weight = torch.sparse_compressed_tensor(crow, col, values, size, layout=layout, check_invariants=False)
    if tokens == 1 and tile not in SLOW_WITH_A_VECTOR and not (x.is_cuda and tile > 1):
        vector = torch.mv(weight, x[0]) if bias is None else torch.addmv(bias, weight, x[0])
        return vector[None]
    some, step = _steps(tile, max(size), x)
    result = x.new_empty(tokens, outputs)
    for start in range(0, tokens, some):
        part = x[start : start + some]
        count = len(part)
        if missing := -count % step:
            part = pad(part, (0, 0, 0, missing))
        if bias is None:
            found = torch.mm(weight, part.t())
        else:
            found = torch.addmm(bias[:, None].expand(-1, len(part)), weight, part.t())
        result[start : start + count] = found[:, :count].t()
    return result


def _steps(tile: int, widest: int, x: torch.Tensor) -> tuple[int, int]:
    """(tokens of a product, what they must be a multiple of)."""
    if x.is_cuda:
        return max(len(x), 1), tile  # torch's own kernels for tiles want it
    return max(AT_ONCE // widest // TOKENS, 1) * TOKENS, 1 if tile == 1 else STEP


def _quiet() -> None:
    """Has torch say, unheard, that its compressed tensors are in beta: it says so once a process."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1))


@functools.cache
def _operator() -> Callable[..., torch.Tensor]:
    """`product` as one operator: the compiler cannot look into products of sparse tensors.

    Not taken outside of it, where it would cost as much as the product of a small layer.
    """
    import torch

    schema = "(Tensor crow, Tensor col, Tensor values, Tensor? bias, Tensor x) -> Tensor"
    found: Any = torch.library.custom_op(OPERATOR, product, mutates_args=(), schema=schema)

    @found.register_fake  # type: ignore[untyped-decorator]  # torch leaves it untyped
    def _shape(crow: torch.Tensor, col: Any, values: torch.Tensor, bias: Any, x: torch.Tensor) -> torch.Tensor:
        del col, bias
        return x.new_empty(x.shape[0], tile_of(values) * (crow.shape[0] - 1))

    operator: Callable[..., torch.Tensor] = found
    return operator


@functools.cache
def _layer_class() -> Any:
    """The class, made when it is first needed: a class of torch's cannot be named without importing torch."""
    import torch
    from torch import nn

    _quiet()
    operator = _operator()

    class CompressedLinear(nn.Module):
        """A `SparseLayer`."""

        crow_indices: torch.Tensor
        col_indices: torch.Tensor
        values: torch.Tensor
        weight = None
        """There is no dense one; T5 looks whether there is."""

        def __init__(self, weight: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, tile: int) -> None:
            super().__init__()
            self.out_features, self.in_features = weight.shape
            self.bias = bias
            for name, part in zip(("crow_indices", "col_indices", "values"), compress(weight, mask, tile), strict=True):
                self.register_buffer(name, part)

        def __reduce__(self) -> tuple[Any, ...]:
            return _blank, (), self.__dict__

        def dense_weight(self) -> torch.Tensor:
            """The masked weight."""
            return expand(self.crow_indices, self.col_indices, self.values, self.out_features, self.in_features)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """`F.linear` with the masked weight."""
            multiply = operator if torch.compiler.is_compiling() else product
            tokens = x.reshape(-1, self.in_features)
            found = multiply(self.crow_indices, self.col_indices, self.values, self.bias, tokens)
            return found.view(*x.shape[:-1], self.out_features)

        def extra_repr(self) -> str:
            """For `print(model)`."""
            return f"in_features={self.in_features}, out_features={self.out_features}, tile={tile_of(self.values)}"

    return CompressedLinear


def _blank() -> nn.Module:
    """What copying and pickling fill: they cannot name the class."""
    found = _layer_class()
    return found.__new__(found)  # type: ignore[no-any-return]  # the class is made at run time
