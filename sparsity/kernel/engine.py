"""Calls the kernel: divides the tokens into tiles and the work among threads.

Everything is addresses and sizes here; `operators` has seen to it that they are right.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from sparsity.kernel.build import Entry, entries, parallel
from sparsity.kernel.layout import PANEL_ROWS
from sparsity.kernel.program import NEXT, SLACK

if TYPE_CHECKING:
    import torch

TILES = (1, 4, 8, 16, 32, 64)
"""Tokens of a tile. The last tile of a batch is the smallest that holds what is left."""
LARGEST = TILES[-1]
ALIGN = 64
"""Bytes; of a cache line."""
FLOAT = 4
"""Bytes."""


class Weight(NamedTuple):
    """A weight with its bias, as `layout.pack` made them."""

    address: int
    rows: int
    columns: int
    block_rows: int


class Tokens(NamedTuple):
    """What goes in or comes out: fp32, contiguous, one row for each token."""

    address: int
    count: int  # type: ignore[assignment]  # a tuple can count as well, which nobody asks of this one
    features: int

    def part(self, first: int, count: int) -> Tokens:
        """Some of the tokens."""
        return Tokens(self.address + FLOAT * first * self.features, count, self.features)


_Context = ctypes.c_int64 * (NEXT + 5)
_own = threading.local()
"""Each calling thread has its own scratch memory, which grows and stays."""


def linear(x: Tokens, weight: Weight, activation: int, y: Tokens) -> None:
    """Y = act(x W' + b)."""
    each, workers = weight.columns + PANEL_ROWS + 2 * SLACK, threads()
    for first, count, tile in _portions(x.count):
        few = _few(count, tile, workers)
        shared = -(-count // tile) * (weight.columns + SLACK) * tile * FLOAT if few else 0
        memory = (each * tile * FLOAT, shared, few)
        entry, _ = entries(tile, weight.block_rows)
        _call(entry, (x.part(first, count), y.part(first, count)), (weight.address, 0), activation, memory, workers)


def feed_forward(x: Tokens, up: Weight, down: Weight, activation: int, y: Tokens) -> None:
    """Y = act(x U' + c) D' + b."""
    import torch

    below = -(-down.rows // PANEL_ROWS) * PANEL_ROWS
    each, workers = up.columns + below + PANEL_ROWS + 3 * SLACK, threads()
    for first, count, tile in _portions(x.count):
        own, out = x.part(first, count), y.part(first, count)
        if _few(count, tile, workers) or up.block_rows != down.block_rows:
            values = torch.empty(count, up.rows)
            hidden = Tokens(values.data_ptr(), count, up.rows)
            linear(own, up, activation, hidden)
            linear(hidden, down, 0, out)
        else:
            _, entry = entries(tile, up.block_rows)
            memory = (each * tile * FLOAT, 0, False)
            _call(entry, (own, out), (up.address, down.address), activation, memory, workers)


def threads() -> int:
    """Those that torch computes with; 1 where its runtime cannot be shared."""
    import torch

    return torch.get_num_threads() if parallel() else 1


@functools.cache
def _portions(tokens: int) -> tuple[tuple[int, int, int], ...]:
    """(first token, how many, tokens of a tile): whole tiles, then what is left."""
    return tuple(_divided(tokens))


def _divided(tokens: int) -> Iterator[tuple[int, int, int]]:
    whole = tokens // LARGEST * LARGEST
    if whole:
        yield 0, whole, LARGEST
    if left := tokens - whole:
        yield whole, left, next(tile for tile in TILES if tile >= left)


def _few(count: int, tile: int, workers: int) -> bool:
    """Whether there are too few tiles to keep every thread at work."""
    tiles = -(-count // tile)
    return workers > 1 and tiles < 2 * workers and tiles % workers != 0


def _call(
    entry: Entry,
    tokens: tuple[Tokens, Tokens],
    weights: tuple[int, int],
    activation: int,
    memory: tuple[int, int, bool],
    workers: int,
) -> None:
    """One call of the kernel; `memory` is (scratch bytes of a thread, of all together, whether tiles are few)."""
    (x, y), (each, shared, few) = tokens, memory
    each = -(-each // ALIGN) * ALIGN
    scratch = _scratch(each * workers + shared)
    context = _Context(
        *(x.address, x.features, y.address, y.features, x.count, *weights),
        *(activation, scratch, each, 0, 0, 0, workers, few),
    )
    entry(ctypes.addressof(context))


def _scratch(size: int) -> int:
    """The address of at least so many bytes, at the beginning of a cache line."""
    import torch

    found: torch.Tensor | None = getattr(_own, "scratch", None)
    if found is None or found.numel() < size:
        found = _own.scratch = torch.empty(size, dtype=torch.uint8)
    return found.data_ptr()
